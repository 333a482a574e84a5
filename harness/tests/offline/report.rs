//! `meridian report` as a browser sees it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use meridian::access_log::Log;
use meridian::traffic;
use serde_json::{Value, json};

const GATEWAY: &str =
    "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account";
const SHOP: &str = "spiffe://cluster.local/ns/shop/sa/shop";
const HOSTILE: &str =
    "<script>document.title='run'</script><img src=http://127.0.0.1:9/ onerror=x>";

/// Logs in a folder of their own: each line so many times.
struct Logs {
    folder: tempfile::TempDir,
}

impl Logs {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn log(&self, name: &str, lines: &[(usize, Value)]) {
        let mut text = String::new();
        for (times, line) in lines {
            text.push_str(&format!("{line}\n").repeat(*times));
        }
        std::fs::write(self.path().join(format!("{name}.access.log")), text).unwrap();
    }

    fn report(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_meridian"))
            .current_dir(self.path())
            .arg("report")
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The page of the whole folder.
    fn page(&self) -> PathBuf {
        let page = self.path().join("page.html");
        let title = format!("A run {HOSTILE}");
        let traffic = traffic::read(&[Log::File(self.path().to_owned())]).unwrap();
        std::fs::write(&page, traffic::page(&title, &traffic)).unwrap();
        page
    }
}

/// A line with `over` over what most lines have.
fn line(over: Value) -> Value {
    let mut line = json!({
        "time": "2026-11-24T10:00:00.123Z", "namespace": "shop", "proxy": "shop",
        "component_type": "application", "decision": "allow", "rule": "default", "method": "GET",
        "path": HOSTILE, "status": 200, "details": "via_upstream", "duration_ms": 7,
        "source": "127.9.1.1:4000",
    });
    for (key, value) in over.as_object().unwrap() {
        line[key] = value.clone();
    }
    line
}

fn refused(rule: &str, over: Value) -> Value {
    let mut line = line(over);
    line["decision"] = json!("deny");
    line["rule"] = json!(rule);
    line["details"] = json!(format!("meridian_deny{{{rule}}}"));
    line
}

fn mesh() -> Logs {
    let ingress = |host: &str| {
        json!({"reporter": "ingress", "proxy": "gateway", "namespace": "istio-system",
            "direction": "north-south", "host": host, "authority": host, "rule": "storefront"})
    };
    let inbound = |peer: &str, direction: &str, evidence: &str, proxy: &str| {
        json!({"reporter": "inbound", "proxy": proxy, "namespace": proxy, "peer": peer,
            "direction": direction, "evidence": evidence, "source": "127.1.0.10:4",
            "time": "2026-11-24T10:00:30Z"})
    };
    let outbound = |direction: &str, host: &str| json!({"reporter": "outbound", "direction": direction, "host": host, "authority": host});
    let egress = |host: &str| {
        json!({"reporter": "egress", "proxy": "egress", "namespace": "istio-system", "peer": SHOP,
            "direction": "north-south", "host": host, "authority": host, "source": "127.1.1.1:4"})
    };
    let logs = Logs::new();
    let dry_run = json!({"reporter": "ingress", "proxy": "gateway", "namespace": "istio-system",
        "direction": "north-south", "authority": "shop.example.com", "dry_run": "deny{next-week}"});
    logs.log(
        "gateway",
        &[
            (5, line(ingress("shop.example.com"))),
            (1, line(dry_run)),
            (2, refused("no-admin", ingress("admin.example.com"))),
            // What a client made up, and what a log of a stranger could hold.
            (
                1,
                refused(
                    HOSTILE,
                    json!({"reporter": "ingress", "proxy": "gateway",
                "namespace": "istio-system", "direction": "north-south", "authority": HOSTILE}),
                ),
            ),
        ],
    );
    let leaving = outbound("north-south", "api.partner.example");
    let tracked = outbound("north-south", "tracker.example");
    let inside = outbound("east-west", "orders.orders.svc.cluster.local");
    logs.log(
        "shop",
        &[
            (
                6,
                line(inbound(GATEWAY, "north-south", "gateway-tag", "shop")),
            ),
            (3, line(leaving)),
            (1, line(tracked)),
            (4, line(inside)),
            (
                1,
                line(inbound(
                    &SHOP.replace("shop", "<b>bold</b>"),
                    "unknown",
                    "x",
                    "shop",
                )),
            ),
        ],
    );
    logs.log(
        "orders",
        &[(
            4,
            line(inbound(SHOP, "east-west", "mesh-identity", "orders")),
        )],
    );
    logs.log(
        "egress",
        &[
            (3, line(egress("api.partner.example"))),
            (1, refused("no-trackers", egress("tracker.example"))),
        ],
    );
    // Of an unknown proxy.
    logs.log(
        "stranger",
        &[(
            1,
            line(json!({"proxy": HOSTILE, "namespace": "\u{202e}live", "authority": "a"})),
        )],
    );
    logs
}

/// What Chromium makes of a page: its document after it has loaded.
fn loaded(page: &Path, profile: &Path, further: &[&str]) -> Option<String> {
    if Command::new("chromium").arg("--version").output().is_err() {
        assert!(
            std::env::var_os("CI").is_none(),
            "no `chromium` on the PATH: install it, as .ci/run does"
        );
        eprintln!("NOT RUN: the report in Chromium; there is no `chromium` on the PATH");
        return None;
    }
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
        ])
        // Nothing but the file itself.
        .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom"])
        .args(["--enable-logging=stderr", "--window-size=1280,2000"])
        .args(further)
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    for complaint in ["Content Security Policy", "CONSOLE"] {
        assert!(!errors.contains(complaint), "{errors}");
    }
    Some(String::from_utf8(output.stdout).unwrap())
}

/// The titles of the map's edges: `FROM → TO: COUNT DIRECTION, DECISION`.
fn edges(document: &str) -> Vec<String> {
    let mut edges: Vec<String> = document
        .split("<title>")
        .filter_map(|rest| rest.split_once("</title>"))
        .map(|(title, _)| title.to_owned())
        .filter(|title| title.contains('→'))
        .collect();
    edges.sort();
    edges
}

const ESCAPED: &str = "&lt;script&gt;document.title='run'&lt;/script&gt;&lt;img src=http://127.0.0.1:9/ onerror=x&gt;";

fn expected() -> Vec<String> {
    let mut edges = vec![
        "outside (clients) → gateway (istio-system): 6 north-south, allowed; a dry run would refuse by next-week (1)".to_owned(),
        format!("outside (clients) → gateway (istio-system): 3 north-south, REFUSED by {ESCAPED} (1), no-admin (2)"),
        "gateway (istio-system) → shop (shop): 6 north-south, allowed".to_owned(),
        // An identity with a slash in a name is none: the caller is then its address.
        "127.1.0.10 → shop (shop): 1 unknown, allowed".to_owned(),
        format!("127.9.1.1 → {ESCAPED} (\\u{{202e}}live): 1 unknown, allowed"),
        "shop (shop) → orders (orders): 4 east-west, allowed".to_owned(),
        "shop (shop) → egress (istio-system): 4 north-south, allowed".to_owned(),
        "egress (istio-system) → api.partner.example: 3 north-south, allowed".to_owned(),
        "egress (istio-system) → tracker.example: 1 north-south, REFUSED by no-trackers (1)".to_owned(),
    ];
    edges.sort();
    edges
}

#[test]
fn the_page_shows_who_talks_to_whom_and_nothing_of_it_runs() {
    let logs = mesh();
    let page = logs.page();
    let text = std::fs::read_to_string(&page).unwrap();
    assert_eq!(edges(&text), expected());

    // Nothing may be loaded, and nothing run: no script, not even ours.
    let policy = text
        .split_once("<meta http-equiv=\"Content-Security-Policy\" content=\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(policy, _)| policy)
        .unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    assert!(
        !policy.contains("unsafe") && !policy.contains("script"),
        "{policy}"
    );
    for tag in text.split('<').skip(1) {
        // No `>` within: values are escaped.
        let tag = tag.split('>').next().unwrap();
        let name = tag.split_whitespace().next().unwrap();
        let loads = [
            "script", "img", "link", "iframe", "object", "embed", "image", "use", "a",
        ];
        assert!(!loads.contains(&name), "<{tag}>");
        for attribute in [" on", " src", " href", "xlink:", " style="] {
            assert!(!tag.contains(attribute), "<{tag}>");
        }
    }
    for loads in ["url(h", "@import", "@font-face"] {
        assert!(!text.contains(loads), "{loads}");
    }

    let profile = tempfile::tempdir().unwrap();
    let Some(document) = loaded(&page, profile.path(), &[]) else {
        return;
    };
    assert_eq!(edges(&document), expected());
    for tag in ["<script", "<img", "<b>"] {
        assert!(!document.contains(tag), "{tag}");
    }
    assert!(
        document.contains("<title>A run &lt;script"),
        "the hostile title did not run"
    );
}

#[test]
fn a_browser_draws_it_in_light_and_dark() {
    let logs = mesh();
    let page = logs.page();
    let mut drawn = Vec::new();
    for scheme in ["0", "1"] {
        let profile = tempfile::tempdir().unwrap();
        let picture = logs.path().join(format!("{scheme}.png"));
        let further = [
            format!("--blink-settings=preferredColorScheme={scheme}"),
            format!("--screenshot={}", picture.display()),
        ];
        let further: Vec<&str> = further.iter().map(String::as_str).collect();
        if loaded(&page, profile.path(), &further).is_none() {
            return;
        }
        drawn.push(std::fs::read(picture).unwrap());
    }
    // An empty page of that size is a tenth of this.
    assert!(drawn.iter().all(|picture| picture.len() > 40_000));
    assert_ne!(drawn[0], drawn[1]);
}

#[test]
fn a_log_alone_leads_to_the_hosts_that_were_asked_for() {
    let logs = Logs::new();
    let ingress = json!({"reporter": "ingress", "proxy": "gateway", "namespace": "istio-system",
        "direction": "north-south", "authority": "shop.example.com"});
    let hairpin = json!({"reporter": "ingress", "proxy": "gateway", "namespace": "istio-system",
        "direction": "east-west", "authority": "shop.example.com", "source": "127.1.2.1:4"});
    let leaving = json!({"reporter": "outbound", "direction": "north-south", "authority": "a.example",
        "dry_run": "deny{soon}"});
    let tunnel = json!({"reporter": "egress", "proxy": "egress", "namespace": "istio-system",
        "direction": "north-south", "peer": SHOP, "sni": "b.example", "decision": "deny",
        "rule": "default", "destination": "127.1.0.20:443"});
    logs.log(
        "some",
        &[
            (2, line(ingress)),
            (1, line(hairpin)),
            (3, line(leaving)),
            (1, tunnel),
        ],
    );
    let mut expected = [
        "outside (clients) → gateway (istio-system): 2 north-south, allowed",
        "gateway (istio-system) → shop.example.com: 2 north-south, allowed",
        "127.1.2.1 → gateway (istio-system): 1 east-west, allowed",
        "gateway (istio-system) → shop.example.com: 1 east-west, allowed",
        "shop (shop) → a.example: 3 north-south, allowed; a dry run would refuse by soon (3)",
        "shop (shop) → egress (istio-system): 1 north-south, allowed",
        "egress (istio-system) → b.example: 1 north-south, REFUSED by default (1)",
    ];
    expected.sort_unstable();
    let page = std::fs::read_to_string(logs.page()).unwrap();
    assert_eq!(edges(&page), expected);
}

#[test]
fn the_same_logs_make_the_same_page_and_many_nodes_become_others() {
    let logs = Logs::new();
    let lines: Vec<(usize, Value)> = (0..60)
        .map(|n| {
            let host = format!("host-{n:02}.example");
            let peer = format!("spiffe://cluster.local/ns/team/sa/service-{n:02}");
            let line = line(
                json!({"reporter": "egress", "proxy": "egress", "namespace": "istio-system",
                "peer": peer, "direction": "north-south", "authority": host}),
            );
            (60 - n, line)
        })
        .collect();
    logs.log("egress", &lines);
    let first = std::fs::read_to_string(logs.page()).unwrap();
    assert_eq!(first, std::fs::read_to_string(logs.page()).unwrap());
    let edges = edges(&first);
    assert_eq!(
        edges.len(),
        50,
        "24 callers and hosts, and the others of each"
    );
    // The 36 rarest: 1 + 2 + … + 36.
    for others in [
        "36 others → egress (istio-system): 666 north-south, allowed",
        "egress (istio-system) → 36 others: 666 north-south, allowed",
    ] {
        assert!(edges.iter().any(|edge| edge == others), "{edges:#?}");
    }
}

#[test]
fn logs_are_named_as_files_folders_and_stdin() {
    let logs = mesh();
    let output = logs.report(&[
        "--out",
        "a.html",
        "--title",
        "Mine",
        "shop.access.log",
        "egress.access.log",
    ]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"a.html\n");
    let page = std::fs::read_to_string(logs.path().join("a.html")).unwrap();
    assert!(page.contains("<h1>Mine</h1>"));
    assert!(page.contains("19 entries"), "shop has 15 and egress 4");

    let output = logs.report(&["--out", "b.html", "--map", "map.svg", "."]);
    assert!(output.status.success(), "{output:?}");
    let map = std::fs::read_to_string(logs.path().join("map.svg")).unwrap();
    assert_eq!(edges(&map), expected());
    // As XML, which a browser takes less lightly than HTML.
    let mut reader = quick_xml::Reader::from_str(&map);
    while reader.read_event().unwrap() != quick_xml::events::Event::Eof {}

    // One log named twice is one log.
    let output = logs.report(&[".", "./shop.access.log"]);
    assert!(output.status.success(), "{output:?}");
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>"));
    assert!(page.contains("33 entries"));

    for (arguments, what) in [
        (
            &["nothing.access.log"][..],
            "cannot open the log nothing.access.log",
        ),
        (&["a.html"], "is an entry of an access log"),
        (&["-"], "the logs hold no entry"),
        (
            &["--out", "no/where.html", "."],
            "cannot write no/where.html",
        ),
        (&["/proc/self"], "has no *.access.log"),
    ] {
        let output = logs.report(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(what), "{arguments:?}: {error}");
    }
}
