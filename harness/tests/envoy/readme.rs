//! What the README shows is what the commands print.

use std::path::Path;
use std::process::Command;

use meridian_metrics::METRICS;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// The fenced blocks of a language.
fn blocks(language: &str) -> Vec<String> {
    let readme = readme();
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in readme.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    let of_language = blocks.into_iter().filter(|(is, _)| is == language);
    of_language.map(|(_, text)| text).collect()
}

#[test]
fn every_explanation_is_printed_today() {
    let mut checked = 0;
    for block in blocks("console") {
        let (command, expected) = block.split_once('\n').unwrap();
        let Some(arguments) = command.strip_prefix("$ cargo run -q -- explain ") else {
            continue;
        };
        let arguments = arguments
            .split(' ')
            .map(|argument| argument.trim_matches('\''));
        let output = Command::new(env!("CARGO_BIN_EXE_meridian"))
            .arg("explain")
            .args(arguments)
            .current_dir(root())
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            expected,
            "{command}"
        );
        checked += 1;
    }
    assert_eq!(checked, 2);
}

#[test]
fn the_demo_prints_what_the_readme_shows() {
    let shown = blocks("text")
        .into_iter()
        .find(|block| block.contains("asks for an allowed host"))
        .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .current_dir(root())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    for paragraph in shown.split("\n\n") {
        let paragraph = paragraph.trim_end();
        assert!(
            printed.contains(paragraph),
            "not printed:\n{paragraph}\n\nbut:\n{printed}"
        );
    }
}

#[test]
fn the_table_of_metrics_is_the_code_s() {
    let readme = readme();
    for metric in METRICS {
        let kind = metric.kind.as_str();
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let row = format!(
            "| `{}` | {kind} | {} | {} |",
            metric.name,
            labels.join(", "),
            metric.help()
        );
        assert!(readme.contains(&row), "the README lacks the row\n{row}");
    }
}
