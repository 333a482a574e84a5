//! How expectations are written in YAML. Strict: a misspelt field must not pass as one that is not
//! checked.

use std::collections::BTreeSet;

use meridian_policy::{Action, ComponentType, Direction, DirectionEvidence, Policy};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny};
use serde_json::{Value, json};

use crate::policy::query::{Misplaced, Query};
use crate::policy::yaml::{self, TooLarge};

/// One request or connection and what must become of it.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it is called, unique in its file.
    pub name: String,
    /// The request or connection.
    pub request: Query,
    /// What must become of it.
    pub expect: Expect,
}

/// What must become of a request: the keys of `meridian explain --json`. `None` is not checked,
/// `Some(None)` is written `null`.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// Allowed or refused.
    #[serde(deserialize_with = "action")]
    decision: Option<Action>,
    /// The rule that decides, or none.
    #[serde(deserialize_with = "given")]
    rule: Option<Option<String>>,
    /// The status of the refusal, or none.
    #[serde(deserialize_with = "given")]
    status: Option<Option<u16>>,
    /// Whether a connection is closed.
    closed: Option<bool>,
    /// The direction.
    #[serde(deserialize_with = "direction")]
    direction: Option<Direction>,
    /// What the direction is concluded from.
    #[serde(deserialize_with = "evidence")]
    evidence: Option<DirectionEvidence>,
    /// Whom the request serves.
    #[serde(deserialize_with = "component")]
    component_type: Option<ComponentType>,
    /// The canonical host, or none where it is invalid.
    #[serde(deserialize_with = "given")]
    host: Option<Option<String>>,
    /// What a dry run would have done, or none.
    #[serde(deserialize_with = "given")]
    dry_run: Option<Option<ExpectDryRun>>,
}

/// What a dry run must have done.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExpectDryRun {
    /// Allowed or refused.
    #[serde(deserialize_with = "action")]
    decision: Option<Action>,
    /// The rule that would decide, or none.
    #[serde(deserialize_with = "given")]
    rule: Option<Option<String>>,
}

/// Something that is not as expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The field, such as `dry_run.rule`.
    pub field: &'static str,
    /// What was expected.
    pub expected: Value,
    /// What is.
    pub actual: Value,
}

impl Expect {
    /// Compares with the object that `meridian explain --json` prints.
    pub fn differences(&self, explanation: &Value) -> Vec<Difference> {
        let mut expected = vec![
            ("decision", self.decision.map(|word| json!(word.as_str()))),
            ("rule", self.rule.as_ref().map(|rule| json!(rule))),
            ("status", self.status.map(|status| json!(status))),
            ("closed", self.closed.map(|closed| json!(closed))),
            ("direction", self.direction.map(|word| json!(word.as_str()))),
            ("evidence", self.evidence.map(|word| json!(word.as_str()))),
            (
                "component_type",
                self.component_type.map(|word| json!(word.as_str())),
            ),
            ("host", self.host.as_ref().map(|host| json!(host))),
        ];
        let actual = &explanation["dry_run"];
        match &self.dry_run {
            None => {}
            Some(None) => expected.push(("dry_run", Some(Value::Null))),
            Some(Some(dry_run)) => {
                let decision = dry_run.decision.map(|word| json!(word.as_str()));
                let rule = dry_run.rule.as_ref().map(|rule| json!(rule));
                if actual.is_null() {
                    let wanted = [("decision", &decision), ("rule", &rule)]
                        .into_iter()
                        .filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)))
                        .collect();
                    expected.push(("dry_run", Some(Value::Object(wanted))));
                } else {
                    expected.push(("dry_run.decision", decision));
                    expected.push(("dry_run.rule", rule));
                }
            }
        }
        let differences = expected.into_iter().filter_map(|(field, expected)| {
            let actual = match field.strip_prefix("dry_run.") {
                Some(inner) => &actual[inner],
                None => &explanation[field],
            };
            let expected = expected.filter(|expected| expected != actual)?;
            Some(Difference {
                field,
                expected,
                actual: actual.clone(),
            })
        });
        differences.collect()
    }
}

/// Reads a file of expectations of a policy.
///
/// # Errors
/// One for every case that is wrong, with its place in the document; one when the document is not
/// a list.
pub fn read(text: &str, policy: &Policy) -> Result<Vec<Case>, Vec<String>> {
    yaml::bound(text).map_err(|large| {
        let hint = TooLarge::HINT;
        vec![format!("{}: {large}; {hint}", large.path)]
    })?;
    let written: Vec<yaml_serde::Value> = yaml_serde::from_str(text).map_err(|error| {
        vec![format!(
            "is not a list of expectations: {error}; write `- name: …`, `request: …`, `expect: …` for each"
        )]
    })?;
    if written.is_empty() {
        return Err(vec![
            "holds no expectation; write `- name: …`, `request: …`, `expect: …` for each"
                .to_owned(),
        ]);
    }
    let mut errors = Vec::new();
    let mut names = BTreeSet::new();
    let mut cases = Vec::new();
    for (index, value) in written.into_iter().enumerate() {
        let empty = is_empty(&value);
        match serde_path_to_error::deserialize::<_, Case>(value) {
            Err(error) => {
                let path = error.path().to_string();
                let dot = if path.starts_with('.') { "" } else { "." };
                let path = if path == "." {
                    String::new()
                } else {
                    format!("{dot}{path}")
                };
                errors.push(format!("[{index}]{path}: {}", error.inner()));
            }
            Ok(mut case) => {
                let request = &mut case.request;
                let valid = request.validate();
                let found = valid.and_then(|()| request.resolve_gateway(policy));
                if let Err(Misplaced { field, message }) = found {
                    errors.push(format!("[{index}].request.{field}: {message}"));
                }
                if empty {
                    errors.push(format!(
                        "[{index}].expect: says nothing; write what to expect, such as `decision: deny`"
                    ));
                }
                if !names.insert(case.name.clone()) {
                    errors.push(format!(
                        "[{index}].name: {:?} is the name of an earlier expectation; give each its own name",
                        case.name
                    ));
                }
                cases.push(case);
            }
        }
    }
    if errors.is_empty() {
        Ok(cases)
    } else {
        Err(errors)
    }
}

/// True if the case expects nothing, and so could never fail.
fn is_empty(case: &yaml_serde::Value) -> bool {
    #[derive(serde::Deserialize)]
    struct OnlyExpect {
        expect: std::collections::BTreeMap<String, IgnoredAny>,
    }
    OnlyExpect::deserialize(case).is_ok_and(|case| case.expect.is_empty())
}

/// Tells a field that is `null` from one that is not there.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

macro_rules! words {
    ($($function:ident: $word:ty,)+) => {$(
        fn $function<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<$word>, D::Error> {
            let text = String::deserialize(deserializer)?;
            let word = <$word>::from_word(&text);
            word.map(Some).ok_or_else(|| {
                let words: Vec<&str> = <$word>::ALL.iter().map(|word| word.as_str()).collect();
                D::Error::custom(format!("is {text:?}; write one of {}", words.join(", ")))
            })
        }
    )+};
}

words! {
    action: Action,
    component: ComponentType,
    direction: Direction,
    evidence: DirectionEvidence,
}
