use std::time::Instant;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::tables::Sort;
use super::view::View;
use super::*;
use crate::lab::prometheus::Samples;

/// Two scrapes, two seconds apart, of three proxies and one that does not answer.
fn proxies() -> Vec<Proxy> {
    let scrapes = [
        (
            "127.0.0.1:1",
            r#"
meridian_requests_total{reporter="ingress",direction="north-south",component_type="application",decision="allow",rule="storefront"} 10
meridian_requests_total{reporter="ingress",direction="north-south",component_type="system",decision="deny",rule="default"} 4
meridian_request_duration_milliseconds_bucket{reporter="ingress",direction="north-south",le="10"} 5
meridian_request_duration_milliseconds_bucket{reporter="ingress",direction="north-south",le="100"} 10
meridian_request_duration_milliseconds_bucket{reporter="ingress",direction="north-south",le="+Inf"} 10
meridian_connections_total{reporter="ingress",direction="north-south",decision="deny",rule="tls"} 1
meridian_dry_run_total{reporter="ingress",direction="north-south",decision="deny",rule="soon"} 2
meridian_dry_run_total{reporter="ingress",direction="north-south",decision="allow",rule="later"} 2
meridian_responses_total{reporter="ingress",direction="north-south",response_code_class="2xx"} 9
meridian_responses_total{reporter="ingress",direction="north-south",response_code_class="5xx"} 1
meridian_policy_revision{reporter="ingress"} 11256099
meridian_policy_rules{reporter="ingress"} 3
"#,
            r#"
meridian_requests_total{reporter="ingress",direction="north-south",component_type="application",decision="allow",rule="storefront"} 30
meridian_requests_total{reporter="ingress",direction="north-south",component_type="system",decision="deny",rule="default"} 8
meridian_request_duration_milliseconds_bucket{reporter="ingress",direction="north-south",le="10"} 5
meridian_request_duration_milliseconds_bucket{reporter="ingress",direction="north-south",le="100"} 15
meridian_request_duration_milliseconds_bucket{reporter="ingress",direction="north-south",le="+Inf"} 15
meridian_connections_total{reporter="ingress",direction="north-south",decision="deny",rule="tls"} 2
meridian_dry_run_total{reporter="ingress",direction="north-south",decision="deny",rule="soon"} 2
meridian_dry_run_total{reporter="ingress",direction="north-south",decision="allow",rule="later"} 2
meridian_responses_total{reporter="ingress",direction="north-south",response_code_class="2xx"} 29
meridian_responses_total{reporter="ingress",direction="north-south",response_code_class="5xx"} 1
meridian_policy_revision{reporter="ingress"} 11256099
meridian_policy_rules{reporter="ingress"} 3
"#,
        ),
        (
            "127.0.0.1:2",
            "",
            r#"
meridian_requests_total{reporter="egress",direction="north-south",component_type="application",decision="deny",rule="[31mred<RLO>txt"} 1
meridian_caller_requests_total{reporter="egress",source_namespace="shop",direction="north-south",decision="deny"} 1
meridian_request_duration_milliseconds_bucket{reporter="egress",direction="north-south",le="+Inf"} 0
meridian_policy_revision{reporter="egress"} 11256099
"#,
        ),
        (
            "127.0.0.1:3",
            "meridian_policy_revision{reporter=\"inbound\"} 1\nmeridian_policy_revision{reporter=\"outbound\"} 1\n",
            "meridian_policy_revision{reporter=\"inbound\"} 1\nmeridian_policy_revision{reporter=\"outbound\"} 1\n",
        ),
    ];
    let start = Instant::now();
    let mut proxies = Vec::new();
    for (address, before, after) in scrapes {
        let mut proxy = Proxy::new(address.parse().unwrap());
        let after = after
            .replace("[31m", "\x1b[31m")
            .replace("<RLO>", "\u{202e}");
        proxy.take(start, Samples::parse(before));
        proxy.take(start + Duration::from_secs(2), Samples::parse(&after));
        assert_eq!(proxy.error, None);
        proxies.push(proxy);
    }
    let mut dead = Proxy::new("127.0.0.1:4".parse().unwrap());
    dead.take(start, Err(anyhow::anyhow!("Connection\nrefused")));
    proxies.push(dead);
    proxies
}

#[test]
fn the_text_has_every_section_and_nothing_that_moves_the_cursor() {
    let text = tables::plain(&Snapshot::of(&proxies(), false), 10);
    let expected = r"Traffic
  flow            reporter requests   /s denied app system p50 p95 p99 ms of
  north-south in  ingress        38 12.0      8  30      8  55  96     99 1m
  north-south out egress          1  0.5      1   1      0   -   -      - -

Refusals
  rule                     reporter direction   count  /s of
  default                  ingress  north-south     8 2.0 requests
  tls                      ingress  north-south     2 0.5 connections
  \u{1b}[31mred\u{202e}txt egress   north-south     1 0.5 requests

Dry run would deny
  rule reporter direction   count /s
  soon ingress  north-south     2  0

Responses
  reporter direction   2xx 3xx 4xx 5xx   /s
  ingress  north-south  29   0   0   1 10.0

Connections
  rule reporter direction   decision count  /s
  tls  ingress  north-south deny         2 0.5

Egress callers
  namespace reporter direction   decision count  /s
  shop      egress   north-south deny         1 0.5

Proxies
  address     reporters        policy       rules   /s state
  127.0.0.1:1 ingress          000000abc123     3 12.0 ok
  127.0.0.1:2 egress           000000abc123     -  0.5 ok
  127.0.0.1:3 inbound,outbound 000000000001     -    0 POLICY DIFFERS
  127.0.0.1:4 -                -                -    0 NO ANSWER: Connection\nrefused
";
    assert_eq!(text, expected);
}

#[test]
fn a_tie_of_policies_marks_both() {
    let mut proxies = proxies();
    proxies.remove(1);
    let snapshot = Snapshot::of(&proxies, false);
    assert_eq!(snapshot.policies, 2);
    let differ: Vec<bool> = snapshot.proxies.iter().map(|proxy| proxy.differs).collect();
    assert_eq!(differ, [true, true, false]);
}

#[test]
fn the_text_says_how_many_rows_it_leaves_out() {
    let text = tables::plain(&Snapshot::of(&proxies(), false), 1);
    assert!(text.contains("default"), "{text}");
    assert!(!text.contains("0.5 connections"), "{text}");
    assert!(text.contains("  and 2 more\n"), "{text}");
}

fn drawn(proxies: &[Proxy], width: u16, height: u16, selected: usize) -> String {
    let mut view = View {
        snapshot: Snapshot::of(proxies, false),
        interval: Duration::from_secs(2),
        selected,
        sort: Sort::Count,
        scroll: 100,
        paused: true,
    };
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw::screen(frame, &mut view))
        .unwrap();
    terminal.backend().to_string()
}

#[test]
fn any_size_of_terminal_can_be_drawn_on() {
    let proxies = proxies();
    for width in [1, 2, 7, 20, 40, 79, 80, 119, 120, 160, 300] {
        for height in [1, 2, 3, 5, 8, 24, 36, 50] {
            for selected in 0..6 {
                drawn(&proxies, width, height, selected);
            }
        }
    }
}

#[test]
fn eighty_by_twenty_four_shows_what_matters() {
    let screen = drawn(&proxies(), 80, 24, 5);
    for part in [
        "3 of 4 proxies answer",
        "2 POLICIES",
        "PAUSED",
        "north-south in  ingress        38 12.0      8",
        "p99 ms",
        "127.0.0.1:3 inbound,outbound 000000000001     -    0 POLICY DIFFERS",
        "NO ANSWER: Conn",
        "q quit",
    ] {
        assert!(screen.contains(part), "{part} is not on\n{screen}");
    }
    let wide = drawn(&proxies(), 160, 50, 0);
    for part in [
        "Refusals (3)",
        "Dry run would deny (1)",
        "Responses (1)",
        "Proxies (4)",
    ] {
        assert!(wide.contains(part), "{part} is not on\n{wide}");
    }
    assert!(
        !wide.contains('\u{1b}') && !wide.contains('\u{202e}'),
        "{wide}"
    );
}

#[test]
fn an_interval_has_a_unit_and_bounds() {
    let parsed = |text| parse_interval(text).ok().map(|time| time.as_millis());
    assert_eq!(parsed("500ms"), Some(500));
    assert_eq!(parsed("2s"), Some(2000));
    assert_eq!(parsed("3"), Some(3000));
    assert_eq!(parsed("1m"), Some(60_000));
    for wrong in [
        "",
        "s",
        "2h",
        "-1s",
        "99ms",
        "61m",
        "1.5s",
        "99999999999999999999s",
    ] {
        assert_eq!(parsed(wrong), None, "{wrong}");
    }
}

#[test]
fn rules_that_stand_still_since_the_policy_changed_are_left_out() {
    let target = "127.0.0.1:1".parse().unwrap();
    let mut proxies = [Proxy::new(target)];
    let scrape = |revision: u64, gone: u64, stays: u64| {
        let line = |rule: &str, count: u64| {
            format!(
                "meridian_requests_total{{reporter=\"ingress\",direction=\"north-south\",decision=\"deny\",rule=\"{rule}\"}} {count}\n"
            )
        };
        let text = format!(
            "meridian_policy_revision{{reporter=\"ingress\"}} {revision}\n{}{}",
            line("gone", gone),
            line("stays", stays)
        );
        Samples::parse(&text)
    };
    let rules = |proxies: &[Proxy], all: bool| -> Vec<String> {
        let snapshot = Snapshot::of(proxies, all);
        snapshot.refusals.into_iter().map(|row| row.rule).collect()
    };
    let at = Instant::now();
    proxies[0].take(at, scrape(1, 5, 5));
    assert_eq!(rules(&proxies, false), ["gone", "stays"]);
    proxies[0].take(at, scrape(2, 5, 5));
    assert_eq!(Snapshot::of(&proxies, false).settled, 2);
    proxies[0].take(at, scrape(2, 5, 6));
    assert_eq!(rules(&proxies, false), ["stays"]);
    assert_eq!(rules(&proxies, true), ["gone", "stays"]);
    let text = tables::plain(&Snapshot::of(&proxies, false), 10);
    assert!(
        text.ends_with(
            "1 series have not moved since the policy changed and are left out; --all shows them\n"
        ),
        "{text}"
    );
    // What all requests add up to is what was counted.
    assert_eq!(Snapshot::of(&proxies, false).traffic[0].denied, 11.0);
    let screen = drawn(&proxies, 120, 24, 0);
    assert!(screen.contains("1 series left out (--all)"), "{screen}");
    // From a reset on, what moves is there at once, and what had moved before is not.
    proxies[0].reset();
    proxies[0].take(at, scrape(2, 5, 7));
    assert_eq!(rules(&proxies, false), ["stays"]);
    proxies[0].take(at, scrape(2, 6, 7));
    assert_eq!(rules(&proxies, false), ["gone", "stays"]);
}

#[test]
fn what_is_left_out_is_what_a_section_would_show() {
    let scrape = |revision: u64| {
        let flow = "reporter=\"egress\",direction=\"north-south\"";
        Samples::parse(&format!(
            "meridian_policy_revision{{reporter=\"egress\"}} {revision}\n\
             meridian_requests_total{{{flow},decision=\"allow\",rule=\"a\"}} 1\n\
             meridian_requests_total{{{flow},decision=\"deny\",rule=\"b\"}} 1\n\
             meridian_connections_total{{{flow},decision=\"allow\",rule=\"a\"}} 1\n\
             meridian_dry_run_total{{{flow},decision=\"allow\",rule=\"a\"}} 1\n\
             meridian_caller_requests_total{{{flow},decision=\"allow\",source_namespace=\"n\"}} 1\n"
        ))
    };
    let mut proxies = [Proxy::new("127.0.0.1:1".parse().unwrap())];
    let at = Instant::now();
    proxies[0].take(at, scrape(1));
    let rows = |snapshot: &Snapshot| {
        snapshot.refusals.len()
            + snapshot.connections.len()
            + snapshot.dry_run.len()
            + snapshot.callers.len()
    };
    assert_eq!(rows(&Snapshot::of(&proxies, false)), 3);
    proxies[0].take(at, scrape(2));
    let snapshot = Snapshot::of(&proxies, false);
    assert_eq!((rows(&snapshot), snapshot.settled), (0, 3));
    let snapshot = Snapshot::of(&proxies, true);
    assert_eq!((rows(&snapshot), snapshot.settled), (3, 0));
}

#[test]
fn absurd_numbers_are_short() {
    let text =
        "meridian_connections_total{reporter=\"ingress\",decision=\"deny\",rule=\"a\"} 1e308\n";
    let at = Instant::now();
    let proxies = ["127.0.0.1:1", "127.0.0.1:2"].map(|address| {
        let mut proxy = Proxy::new(address.parse().unwrap());
        proxy.take(at, Samples::parse(text));
        proxy
    });
    for (proxies, shown) in [(&proxies[..1], " 1.0e308 "), (&proxies[..], " inf ")] {
        let text = tables::plain(&Snapshot::of(proxies, false), 10);
        assert!(text.contains(shown), "{text}");
        assert!(text.lines().all(|line| line.len() < 100), "{text}");
    }
}
