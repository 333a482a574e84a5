//! Where a rule goes in the text of a policy, so that comments and the form of the rest stay.

use meridian_policy::Vantage;

use super::yaml_tree::{NodeKind, YamlNode, find, parse};

/// The rules in both of their forms.
pub struct Addition<'a> {
    /// Lines of a block sequence whose dashes stand in this column.
    pub block: &'a dyn Fn(usize) -> String,
    /// Items of a flow sequence, in JSON.
    pub flow: &'a [String],
}

/// The text with rules added behind those of a vantage; `None` where the place cannot be told, for
/// one because the rules are an alias of others.
pub fn add(text: &str, vantage: Vantage, addition: &Addition<'_>) -> Option<String> {
    let root = parse(text)?;
    let section = vantage.as_str();
    let items = addition.flow.join(", ");
    let block = addition.block;
    let NodeKind::Mapping(entries) = &root.kind else {
        return None;
    };
    let edit = match find(entries, "hosts") {
        None if root.is_flow => Edit::key(
            text,
            &root,
            entries,
            "hosts",
            &format!("{{\"{section}\": {{\"rules\": [{items}]}}}}"),
        )?,
        None => Edit::lines(
            text,
            root.end,
            format!("hosts:\n  {section}:\n    rules:\n{}", block(4)),
        ),
        Some(hosts) => {
            let NodeKind::Mapping(entries) = &hosts.kind else {
                return None;
            };
            match find(entries, section) {
                None if hosts.is_flow => Edit::key(
                    text,
                    hosts,
                    entries,
                    section,
                    &format!("{{\"rules\": [{items}]}}"),
                )?,
                None => {
                    let column = column(text, hosts.start);
                    let margin = " ".repeat(column);
                    let lines = format!(
                        "{margin}{section}:\n{margin}  rules:\n{}",
                        block(column + 2)
                    );
                    Edit::lines(text, hosts.end, lines)
                }
                Some(section) => in_section(text, section, &items, addition)?,
            }
        }
    };
    Some(edit.apply(text))
}

fn in_section(
    text: &str,
    section: &YamlNode,
    items: &str,
    addition: &Addition<'_>,
) -> Option<Edit> {
    let NodeKind::Mapping(entries) = &section.kind else {
        return None;
    };
    let block = addition.block;
    let Some((_, key, rules)) = entries.iter().find(|(word, _, _)| word == "rules") else {
        if section.is_flow {
            return Edit::key(text, section, entries, "rules", &format!("[{items}]"));
        }
        let column = column(text, section.start);
        let lines = format!("{}rules:\n{}", " ".repeat(column), block(column));
        return Some(Edit::lines(text, section.end, lines));
    };
    let NodeKind::Sequence(list) = &rules.kind else {
        return None;
    };
    if !rules.is_flow {
        // The place of a sequence is that of its first dash or, where that stands below the key
        // itself, of the first item.
        let before = text.get(..list.first()?.start)?.trim_end_matches(' ');
        let dash = before.strip_suffix('-')?;
        let lines = block(column(text, dash.len()));
        return Some(Edit::lines(text, rules.end, lines));
    }
    match list.last() {
        Some(last) => {
            // In a list with an item a line the next one gets its own too.
            let line = text.get(..last.start)?.rfind('\n').map_or(0, |at| at + 1);
            let margin = text.get(line..last.start)?;
            let separator = if margin.trim().is_empty() && line > 0 {
                format!(",\n{margin}")
            } else {
                ", ".to_owned()
            };
            let items = addition.flow.join(&separator);
            Some(Edit::insert(last.end, format!("{separator}{items}")))
        }
        // `rules: []` in a block mapping becomes a block sequence, as one would write it.
        None if !section.is_flow && text.get(rules.start..rules.end) == Some("[]") => {
            let before = text.get(..rules.start)?.trim_end_matches(' ').len();
            let mut edit = Edit::lines(text, rules.end, block(column(text, key.start)));
            edit.cut = Some((before, rules.end));
            Some(edit)
        }
        None => Some(Edit::insert(rules.start + 1, items.to_owned())),
    }
}

/// A change of the text: `cut` goes, and `text` comes in at `at`, which is behind it.
struct Edit {
    cut: Option<(usize, usize)>,
    at: usize,
    text: String,
}

impl Edit {
    fn insert(at: usize, text: String) -> Self {
        Self {
            cut: None,
            at,
            text,
        }
    }

    /// Whole lines, behind the line that has `end`.
    fn lines(text: &str, end: usize, mut lines: String) -> Self {
        let bytes = text.as_bytes();
        // A block scalar ends at the start of the line behind it.
        let is_at_start = end > 0 && bytes.get(end - 1) == Some(&b'\n');
        let at = if is_at_start {
            end
        } else {
            let rest = bytes.get(end..).unwrap_or_default();
            let line_end = rest.iter().position(|byte| *byte == b'\n');
            line_end.map_or(text.len(), |length| end + length + 1)
        };
        if text.contains("\r\n") {
            lines = lines.replace('\n', "\r\n");
        }
        if at == text.len() && !text.ends_with('\n') {
            let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
            lines = format!("{line_end}{lines}");
        }
        Self::insert(at, lines)
    }

    /// A key of a flow mapping.
    fn key(
        text: &str,
        mapping: &YamlNode,
        entries: &[(String, YamlNode, YamlNode)],
        key: &str,
        value: &str,
    ) -> Option<Self> {
        let entry = format!("\"{key}\": {value}");
        let Some((_, first, _)) = entries.first() else {
            return Some(Self::insert(mapping.start + 1, entry));
        };
        let (_, last_key, last) = entries.last()?;
        let line = text
            .get(..last_key.start)?
            .rfind('\n')
            .map_or(0, |at| at + 1);
        let margin = text.get(line..last_key.start)?;
        let separator = if margin.trim().is_empty() && line > 0 && first.start != last_key.start {
            format!(",\n{margin}")
        } else {
            ", ".to_owned()
        };
        Some(Self::insert(last.end, format!("{separator}{entry}")))
    }

    fn apply(&self, text: &str) -> String {
        let (from, to) = self.cut.unwrap_or((self.at, self.at));
        [
            &text[..from],
            &text[to..self.at],
            &self.text,
            &text[self.at..],
        ]
        .concat()
    }
}

/// How many characters stand before this place in its line.
fn column(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    before.get(line..).unwrap_or_default().chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy with a rule named `b` added at egress.
    fn added(text: &str) -> Option<String> {
        add(
            text,
            Vantage::Egress,
            &Addition {
                block: &|indent| format!("{0}- name: b\n{0}  x: 1\n", " ".repeat(indent)),
                flow: &["{\"name\": \"b\"}".to_owned()],
            },
        )
    }

    #[test]
    fn a_block_sequence_grows_at_its_end_and_in_its_column() {
        for (text, grown) in [
            (
                "hosts:\n  egress:\n    rules:\n    - name: a # é\n      hosts: [x] # y\n    # more\n  ingress: {}\n",
                "hosts:\n  egress:\n    rules:\n    - name: a # é\n      hosts: [x] # y\n    - name: b\n      x: 1\n    # more\n  ingress: {}\n",
            ),
            (
                "hosts:\n  egress:\n    rules:\n      - name: a\n        hosts:\n          - x",
                "hosts:\n  egress:\n    rules:\n      - name: a\n        hosts:\n          - x\n      - name: b\n        x: 1\n",
            ),
            (
                "hosts:\r\n  egress:\r\n    rules:\r\n    - {name: a}\r\n",
                "hosts:\r\n  egress:\r\n    rules:\r\n    - {name: a}\r\n    - name: b\r\n      x: 1\r\n",
            ),
        ] {
            assert_eq!(added(text).as_deref(), Some(grown));
        }
    }

    #[test]
    fn what_is_missing_is_added() {
        for (text, grown) in [
            (
                "# c\nmesh: {}\n",
                "# c\nmesh: {}\nhosts:\n  egress:\n    rules:\n    - name: b\n      x: 1\n",
            ),
            (
                "hosts:\n  ingress:\n    default: deny # d\nsni: {}\n",
                "hosts:\n  ingress:\n    default: deny # d\n  egress:\n    rules:\n    - name: b\n      x: 1\nsni: {}\n",
            ),
            (
                "hosts:\n    egress:\n        default: deny\n    ingress: {}\n",
                "hosts:\n    egress:\n        default: deny\n        rules:\n        - name: b\n          x: 1\n    ingress: {}\n",
            ),
            (
                "hosts:\n  egress:\n    rules: [] # none\n    default: deny\n",
                "hosts:\n  egress:\n    rules: # none\n    - name: b\n      x: 1\n    default: deny\n",
            ),
        ] {
            assert_eq!(added(text).as_deref(), Some(grown));
        }
    }

    #[test]
    fn flow_and_json_stay_what_they_are() {
        for (text, grown) in [
            (
                "hosts:\n  egress: {default: deny} # d\n",
                "hosts:\n  egress: {default: deny, \"rules\": [{\"name\": \"b\"}]} # d\n",
            ),
            (
                "hosts:\n  egress: {rules: [], default: deny}\n",
                "hosts:\n  egress: {rules: [{\"name\": \"b\"}], default: deny}\n",
            ),
            (
                "hosts: {egress: {rules: [{name: a}]}}",
                "hosts: {egress: {rules: [{name: a}, {\"name\": \"b\"}]}}",
            ),
            (
                "{}",
                "{\"hosts\": {\"egress\": {\"rules\": [{\"name\": \"b\"}]}}}",
            ),
            (
                "{\"hosts\": {\"ingress\": {}}}\n",
                "{\"hosts\": {\"ingress\": {}, \"egress\": {\"rules\": [{\"name\": \"b\"}]}}}\n",
            ),
            (
                "{\n  \"hosts\": {\"egress\": {\"rules\": [\n    {\"name\": \"a\"}\n  ]}}\n}\n",
                "{\n  \"hosts\": {\"egress\": {\"rules\": [\n    {\"name\": \"a\"},\n    {\"name\": \"b\"}\n  ]}}\n}\n",
            ),
        ] {
            assert_eq!(added(text).as_deref(), Some(grown));
        }
    }

    #[test]
    fn an_alias_has_no_place() {
        let text = "hosts:\n  ingress: &a\n    rules: []\n  egress: *a\n";
        assert_eq!(added(text), None);
    }
}
