//! Compares what Envoy, its counters, its log and the upstream saw with what a case expects.

use std::fmt::Debug;
use std::path::Path;

use anyhow::Context;
use meridian::lab::envoy::{Envoy, Version};
use meridian::lab::prometheus::{Sample, Samples};
use meridian_policy::{Action, Vantage};
use meridian_tests::raw::{Answer, Response};
use serde_json::Value;

use super::client::Exchange;
use crate::echo::{Echo, Received};
use meridian_vectors::{Case, EnvoyAnswer, Vectors};

const REQUESTS: &str = "meridian_requests_total";
const DRY_RUN: &str = "meridian_dry_run_total";

/// Watches one Envoy and the upstream behind it.
pub(super) struct Observer<'o> {
    envoy: &'o Envoy,
    version: Version,
    echo: &'o Echo,
    before: Samples,
    failures: Vec<String>,
    logged: Vec<Logged>,
}

/// What the access log must say of a case; Envoy writes it out only when it ends.
struct Logged {
    what: String,
    id: String,
    client: Option<String>,
    details: Details,
}

enum Details {
    /// Exactly this.
    Exactly(String),
    /// Anything that is not the filter's.
    OfEnvoy,
}

/// A list of what is not as expected.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn compare<T: PartialEq + Debug>(&mut self, what: &str, expected: T, actual: T) {
        if expected != actual {
            self.0
                .push(format!("{what} is {actual:?}, not {expected:?}"));
        }
    }
}

impl<'o> Observer<'o> {
    pub(super) async fn new(
        envoy: &'o Envoy,
        version: Version,
        echo: &'o Echo,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            envoy,
            version,
            echo,
            before: scrape(envoy).await?,
            failures: Vec::new(),
            logged: Vec::new(),
        })
    }

    /// Checks one case right after its request.
    pub(super) async fn check(
        &mut self,
        vectors: &Vectors,
        case: &Case,
        exchange: Exchange,
    ) -> anyhow::Result<()> {
        let what = format!("{}: `{}`", vectors.file, case.name);
        let after = scrape(self.envoy).await?;
        let counted = Counted {
            requests: grown(&after, &self.before, REQUESTS),
            dry_runs: grown(&after, &self.before, DRY_RUN),
        };
        self.before = after;
        let received = self.echo.take();
        let mut findings = Findings::default();
        let details = match self.envoy_answer(case)? {
            Some(answer) => {
                envoy_answer(&mut findings, answer, &exchange.answer);
                findings.compare("requests counted", 0, counted.requests.len());
                findings.compare("requests upstream", 0, received.len());
                Details::OfEnvoy
            }
            None => {
                counters(&mut findings, case, &counted);
                match (&exchange.answer, case.expect.decision) {
                    (Answer::Reset(why), _) => {
                        findings.0.push(format!("no response: {why}"));
                    }
                    (Answer::Response(response), Some(Action::Deny)) => {
                        refusal(&mut findings, vectors, case, response);
                        findings.compare("requests upstream", 0, received.len());
                    }
                    (Answer::Response(response), _) => {
                        findings.compare("status", 200, response.status);
                        match received.as_slice() {
                            [received] => {
                                upstream(&mut findings, vectors, case, received, &counted);
                            }
                            many => findings.compare("requests upstream", 1, many.len()),
                        }
                    }
                }
                expected_details(case)
            }
        };
        if !findings.0.is_empty() {
            self.failures
                .push(format!("{what}: {}", findings.0.join("; ")));
        }
        self.logged.push(Logged {
            what,
            id: exchange.id,
            client: exchange.client.map(|client| client.to_string()),
            details,
        });
        Ok(())
    }

    /// What Envoy itself answers, in this version.
    fn envoy_answer(&self, case: &Case) -> anyhow::Result<Option<EnvoyAnswer>> {
        let since = case.expect.envoy_since.as_deref();
        let since: Option<Version> = since.map(str::parse).transpose()?;
        let answers = since.is_none_or(|since| self.version >= since);
        Ok(case.expect.envoy.filter(|_| answers))
    }

    /// What failed, all in all.
    pub(super) fn finish(self) -> Finished {
        Finished {
            failures: self.failures,
            logged: self.logged,
        }
    }
}

/// All cases of an Envoy have run; its access log is still to be read.
pub(super) struct Finished {
    failures: Vec<String>,
    logged: Vec<Logged>,
}

impl Finished {
    /// Checks the access log of an Envoy that has ended and returns every failure.
    pub(super) fn failures(mut self, access_log: &Path) -> anyhow::Result<Vec<String>> {
        let text = std::fs::read(access_log)
            .with_context(|| format!("cannot read {}", access_log.display()))?;
        let lines: Vec<Value> = String::from_utf8_lossy(&text)
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .context("the access log")?;
        for logged in &self.logged {
            if let Some(failure) = logged.failure(&lines) {
                self.failures.push(format!("{}: {failure}", logged.what));
            }
        }
        Ok(self.failures)
    }
}

impl Logged {
    fn failure(&self, lines: &[Value]) -> Option<String> {
        let by_id = |line: &&Value| line["case"].as_str() == Some(&self.id);
        // Raw bytes carry no case header, and of what Envoy cannot parse it logs none.
        let by_client = |line: &&Value| {
            line["case"].is_null()
                && self.client.is_some()
                && line["client"].as_str() == self.client.as_deref()
        };
        let details = lines
            .iter()
            .find(by_id)
            .or_else(|| lines.iter().find(by_client))
            .map(|line| line["details"].as_str().unwrap_or_default());
        match (&self.details, details) {
            (Details::Exactly(expected), Some(details)) if details == expected => None,
            (Details::OfEnvoy, None) => None,
            (Details::OfEnvoy, Some(details)) if !details.starts_with("meridian") => None,
            (Details::Exactly(expected), found) => Some(format!(
                "response code details are {found:?}, not {expected:?}"
            )),
            (Details::OfEnvoy, found) => Some(format!(
                "response code details are {found:?}, not Envoy's own"
            )),
        }
    }
}

/// What the counters have grown by.
struct Counted {
    requests: Vec<Sample>,
    dry_runs: Vec<Sample>,
}

async fn scrape(envoy: &Envoy) -> anyhow::Result<Samples> {
    Samples::parse(
        &envoy
            .get("/stats/prometheus?usedonly&filter=meridian_")
            .await?,
    )
}

fn grown(after: &Samples, before: &Samples, name: &str) -> Vec<Sample> {
    after
        .since(before)
        .find(name, &[])
        .filter(|sample| sample.value != 0.0)
        .cloned()
        .collect()
}

fn envoy_answer(findings: &mut Findings, expected: EnvoyAnswer, actual: &Answer) {
    let actual = match actual {
        Answer::Response(response) => EnvoyAnswer::Status(response.status),
        Answer::Reset(_) => EnvoyAnswer::Reset,
    };
    findings.compare("Envoy's answer", expected, actual);
}

fn counters(findings: &mut Findings, case: &Case, counted: &Counted) {
    let expect = &case.expect;
    match counted.requests.as_slice() {
        [sample] => {
            findings.compare("requests counted", 1.0, sample.value);
            let mut label = |name: &str, expected: Option<&str>| {
                if let Some(expected) = expected {
                    let actual = sample.labels.get(name).map(String::as_str);
                    findings.compare(name, Some(expected), actual);
                }
            };
            label("reporter", Some(case.at.as_str()));
            label("decision", expect.decision.map(|word| word.as_str()));
            label("direction", expect.direction.map(|word| word.as_str()));
            label("component_type", expect.component.map(|word| word.as_str()));
            label("rule", expect.label().as_deref());
        }
        many => findings.compare("counters of requests that grew", 1, many.len()),
    }
    let Some(dry_run) = &expect.dry_run else {
        return;
    };
    match (dry_run, counted.dry_runs.as_slice()) {
        (None, []) => {}
        (Some(expected), [sample]) => {
            findings.compare("dry runs counted", 1.0, sample.value);
            let mut label = |name: &str, expected: &str| {
                let actual = sample.labels.get(name).map(String::as_str);
                findings.compare(&format!("the dry run's {name}"), Some(expected), actual);
            };
            label("reporter", case.at.as_str());
            if let Some(decision) = expected.decision {
                label("decision", decision.as_str());
            }
            if let Some(rule) = &expected.rule {
                label("rule", rule.as_deref().unwrap_or("default"));
            }
        }
        (expected, many) => findings.compare(
            "counters of dry runs that grew",
            usize::from(expected.is_some()),
            many.len(),
        ),
    }
}

fn refusal(findings: &mut Findings, vectors: &Vectors, case: &Case, response: &Response) {
    // Where no status is expected the refusal takes another form, gRPC's for example.
    let Some(status) = case.expect.status else {
        return;
    };
    findings.compare("status", status, response.status);
    let body = match case.expect.label().as_deref() {
        Some("invalid-host") => "invalid host\n",
        Some("sni-mismatch") => "misdirected request\n",
        _ => &vectors.policy.deny.body,
    };
    findings.compare("body", body, &String::from_utf8_lossy(&response.body));
}

/// The request as the upstream saw it. The direction is the one that was counted, which has been
/// compared with what the case expects.
fn upstream(
    findings: &mut Findings,
    vectors: &Vectors,
    case: &Case,
    received: &Received,
    counted: &Counted,
) {
    if let Some(authority) = &case.authority {
        let authority = String::from_utf8_lossy(&authority.0).into_owned();
        findings.compare("Host upstream", vec![authority], received.values("host"));
    }
    let label = |name: &str| {
        let sample = counted.requests.first()?;
        sample.labels.get(name).cloned()
    };
    let direction = label("direction");
    let is_tagged = match case.at {
        Vantage::Ingress | Vantage::Inbound => true,
        Vantage::Egress | Vantage::Outbound => direction.as_deref() == Some("east-west"),
    };
    let tagged = |value: Option<String>| Vec::from_iter(value.filter(|_| is_tagged));
    let tags = &vectors.policy.tags;
    let actual = received.values(&tags.direction_header);
    if let Some(tag) = &case.expect.tag {
        findings.compare("tag upstream", Vec::from_iter(tag.clone()), actual);
    } else {
        findings.compare("tag upstream", tagged(direction), actual);
    }
    if let Some(header) = &tags.component_header {
        let actual = received.values(header);
        findings.compare(
            "component upstream",
            tagged(label("component_type")),
            actual,
        );
    }
    if let Some(header) = &tags.evidence_header {
        let actual = received.values(header);
        match case.expect.evidence {
            Some(evidence) => {
                let expected = tagged(Some(evidence.to_string()));
                findings.compare("evidence upstream", expected, actual);
            }
            None => findings.compare("evidence headers", usize::from(is_tagged), actual.len()),
        }
    }
}

fn expected_details(case: &Case) -> Details {
    match (case.expect.decision, case.expect.label().as_deref()) {
        (Some(Action::Deny), Some("invalid-host")) => {
            Details::Exactly("meridian_invalid_host".to_owned())
        }
        (Some(Action::Deny), Some("sni-mismatch")) => {
            Details::Exactly("meridian_sni_mismatch".to_owned())
        }
        (Some(Action::Deny), Some(rule)) => Details::Exactly(format!("meridian_deny{{{rule}}}")),
        // How a tunnel or a refused upgrade ends is Envoy's affair.
        _ => Details::OfEnvoy,
    }
}
