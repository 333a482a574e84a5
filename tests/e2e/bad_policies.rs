//! `meridian check` and the filter in a real Envoy say the same of documents that are no policy.
//!
//! One Envoy serves with a good policy; each document arrives there as an update, is refused with
//! its errors in the log, and the good policy goes on serving.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine as _;
use meridian::policy::PolicyFile;
use meridian_policy::{ConfigError, Policy};
use meridian_tests::announce;
use meridian_tests::raw::{Answer, Peer, connect, http1};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::discovered::{self, Gateway};

/// As many errors does a filter log; the rest it counts.
const LOGGED: usize = 20;
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(20);
const GOOD: &str =
    "hosts: {ingress: {rules: [{name: shop, hosts: [shop.example.com], action: allow}]}}";

/// The path of an error and a part of its message.
type Located = (String, String);

/// A case as it stands in a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    document: Option<String>,
    rule: Option<String>,
    rules: Option<String>,
    bytes: Option<String>,
    repeat: Option<Repeat>,
    errors: Option<Vec<Located>>,
    check: Option<Vec<Located>>,
    filter: Option<Vec<Located>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Repeat {
    before: String,
    part: String,
    times: usize,
    after: String,
}

impl Case {
    fn document(&self) -> anyhow::Result<Vec<u8>> {
        let rules = |rules: &str| {
            format!("{{\"hosts\": {{\"ingress\": {{\"rules\": {rules}}}}}}}").into_bytes()
        };
        match (
            &self.document,
            &self.rule,
            &self.rules,
            &self.bytes,
            &self.repeat,
        ) {
            (Some(text), None, None, None, None) => Ok(text.clone().into_bytes()),
            (None, Some(rule), None, None, None) => Ok(rules(&format!("[{rule}]"))),
            (None, None, Some(list), None, None) => Ok(rules(list)),
            (None, None, None, Some(text), None) => unescape(text),
            (None, None, None, None, Some(repeat)) => {
                let middle = repeat.part.repeat(repeat.times);
                Ok([&repeat.before, &middle, &repeat.after]
                    .map(String::as_str)
                    .concat()
                    .into_bytes())
            }
            _ => anyhow::bail!("one of `document`, `rule`, `rules`, `bytes` and `repeat`"),
        }
    }

    /// What `check` and the filter are to say, and whether it is the same.
    fn expected(&self) -> anyhow::Result<(&[Located], &[Located], bool)> {
        match (&self.errors, &self.check, &self.filter) {
            (Some(errors), None, None) => Ok((errors, errors, true)),
            (None, Some(check), Some(filter)) => Ok((check, filter, false)),
            _ => anyhow::bail!("`errors`, or `check` and `filter`"),
        }
    }
}

/// Bytes from text in which `\xff` is that byte.
fn unescape(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).context("two digits after \\x")?;
        bytes.push(u8::from_str_radix(digits, 16)?);
        bytes.extend(rest.as_bytes());
    }
    Ok(bytes)
}

fn cases() -> anyhow::Result<Vec<Case>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bad-policies");
    let mut all = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    files.sort();
    for file in files.iter().filter(|file| {
        file.extension()
            .is_some_and(|extension| extension == "yaml")
    }) {
        let text = std::fs::read_to_string(file)?;
        let cases: Vec<Case> =
            yaml_serde::from_str(&text).with_context(|| file.display().to_string())?;
        all.extend(cases);
    }
    let names: BTreeSet<&str> = all.iter().map(|case| case.name.as_str()).collect();
    ensure!(names.len() == all.len(), "two cases have one name");
    Ok(all)
}

fn check(document: &[u8]) -> Vec<String> {
    match PolicyFile::parse(document) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.iter().map(ConfigError::to_string).collect(),
    }
}

/// What is wrong with what was said; `None` when it is as expected.
fn differs(said: &[String], expected: &[Located]) -> Option<String> {
    let is_expected = |(said, (path, part)): (&String, &Located)| {
        let place = if path.is_empty() { "the policy" } else { path };
        match place.strip_suffix('…') {
            Some(start) => said.starts_with(start) && said.contains(part),
            None => said
                .strip_prefix(place)
                .is_some_and(|rest| rest.starts_with(": ") && rest.contains(part)),
        }
    };
    let agrees = said.len() == expected.len() && said.iter().zip(expected).all(is_expected);
    (!agrees).then(|| format!("    said     {said:?}\n    expected {expected:?}"))
}

#[test]
fn check_locates_every_error() -> anyhow::Result<()> {
    let cases = cases()?;
    ensure!(cases.len() >= 100, "only {} documents", cases.len());
    let mut failures = Vec::new();
    for case in &cases {
        let said = check(&case.document().with_context(|| case.name.clone())?);
        let (expected, _, _) = case.expected().with_context(|| case.name.clone())?;
        failures.extend(differs(&said, expected).map(|how| format!("{}\n{how}", case.name)));
    }
    ensure!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
    Ok(())
}

/// Policies in JSON, written in ways that YAML reads otherwise or not at all.
const GOOD_JSON: [&str; 4] = [
    r#"{"deny": {"body": "\ud83d\ude00"}}"#,
    "{\"deny\"\n: {\"body\": \"no\"}}",
    "{\"deny\": {\"body\": \"\u{7f}\"}}",
    "\t{\"deny\":\t{\"body\": \"\\/\"}}\r\n",
];

#[test]
fn check_takes_the_json_that_filters_take() -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for json in GOOD_JSON {
        ensure!(Policy::from_json(json.as_bytes()).is_ok(), "{json:?}");
        let said = check(json.as_bytes());
        if !said.is_empty() {
            failures.push(format!("{json:?}: {said:?}"));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[tokio::test]
async fn check_and_the_filter_in_envoy_say_the_same() -> anyhow::Result<()> {
    let cases = cases()?;
    let mut gateway = Gateway::start("bad-policies", GOOD, 1).await?;
    let mut failures = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let document = case.document()?;
        let (_, expected, is_same) = case.expected()?;
        let before = gateway.envoy.log()?.len();
        gateway.publish(configuration(&document))?;
        gateway
            .reaches((1, index as u64 + 1))
            .await
            .with_context(|| case.name.clone())?;
        let log = gateway.envoy.log()?;
        let said = said(&log[before..]);
        let (expected, rest) = expected.split_at(expected.len().min(LOGGED));
        let mut wanted = expected.to_vec();
        if !rest.is_empty() {
            wanted.push((
                format!("{} more errors…", rest.len()),
                "`meridian check` lists them all".to_owned(),
            ));
        }
        failures.extend(differs(&said, &wanted).map(|how| format!("{}\n{how}", case.name)));
        let checked = check(&document);
        let shown = expected.len().min(checked.len()).min(said.len());
        if is_same && said[..shown] != checked[..shown] {
            failures.push(format!(
                "{}\n    filter {said:?}\n    check  {checked:?}",
                case.name
            ));
        }
        serves(&gateway).await.with_context(|| case.name.clone())?;
    }
    announce(&format!(
        "{} bad policies through check and real Envoy",
        cases.len()
    ));
    ensure!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
    Ok(())
}

/// A text goes in as Istio would send it; what is no text cannot, and goes in as bytes.
fn configuration(document: &[u8]) -> Value {
    match std::str::from_utf8(document) {
        Ok(text) => discovered::text(text),
        Err(_) => json!({
            "@type": "type.googleapis.com/google.protobuf.BytesValue",
            "value": base64::engine::general_purpose::STANDARD.encode(document),
        }),
    }
}

/// What the filter said, from the log.
fn said(log: &str) -> Vec<String> {
    log.lines()
        .filter(|line| line.contains("wasm log"))
        .filter_map(|line| line.split_once("the policy is refused: "))
        .map(|(_, error)| error.to_owned())
        .collect()
}

async fn serves(gateway: &Gateway) -> anyhow::Result<()> {
    for (host, status) in [("shop.example.com", 200), ("other.example.com", 403)] {
        let peer = Peer::Tcp {
            server: gateway.address,
            source: [127, 9, 0, 1].into(),
        };
        let mut connection = connect(&peer).await?;
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
        match http1::exchange(&mut *connection.stream, request.as_bytes(), DEADLINE).await? {
            Answer::Response(response) => {
                ensure!(response.status == status, "{host}: {response:?}")
            }
            Answer::Reset(why) => anyhow::bail!("{host}: {why}"),
        }
    }
    Ok(())
}
