//! The report that build servers read: JUnit's XML, a suite for each file.

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::case_result::CaseResult;

/// The report of all outcomes, which stand together by file.
pub(super) fn report(outcomes: &[CaseResult]) -> std::io::Result<Vec<u8>> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let counts = |outcomes: &[CaseResult]| {
        let failures = outcomes.iter().filter(|outcome| !outcome.is_met()).count();
        (outcomes.len().to_string(), failures.to_string())
    };
    let (tests, failures) = counts(outcomes);
    writer
        .create_element("testsuites")
        .with_attributes([
            ("name", "meridian test"),
            ("tests", &tests),
            ("failures", &failures),
        ])
        .write_inner_content(|writer| {
            for of_file in outcomes.chunk_by(|one, next| one.file == next.file) {
                let (tests, failures) = counts(of_file);
                let file = of_file.first().map(|one| legal(&one.file));
                writer
                    .create_element("testsuite")
                    .with_attributes([
                        ("name", file.as_deref().unwrap_or_default()),
                        ("tests", &tests),
                        ("failures", &failures),
                        ("errors", "0"),
                        ("skipped", "0"),
                    ])
                    .write_inner_content(|writer| {
                        of_file
                            .iter()
                            .try_for_each(|outcome| test_case(writer, outcome))
                    })?;
            }
            Ok(())
        })?;
    let mut report = writer.into_inner();
    report.push(b'\n');
    Ok(report)
}

fn test_case(writer: &mut Writer<Vec<u8>>, outcome: &CaseResult) -> std::io::Result<()> {
    let (name, file) = (legal(&outcome.name), legal(&outcome.file));
    let element = writer
        .create_element("testcase")
        .with_attributes([("name", &*name), ("classname", &*file)]);
    if outcome.is_met() {
        element.write_empty()?;
        return Ok(());
    }
    let fields: Vec<&str> = outcome
        .differences
        .iter()
        .map(|difference| difference.field)
        .collect();
    let message = format!("not as expected: {}", fields.join(", "));
    element.write_inner_content(|writer| {
        writer
            .create_element("failure")
            .with_attributes([("message", &*message), ("type", "expectation")])
            .write_text_content(BytesText::new(&legal(&outcome.diff())))?;
        Ok(())
    })?;
    Ok(())
}

/// The text without the characters that XML 1.0 cannot hold in any spelling.
fn legal(text: &str) -> String {
    text.chars()
        .map(|char| match char {
            '\t' | '\n' | '\r' => char,
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
            char => char,
        })
        .collect()
}
