//! The table of mutations in this crate's README.md is about files, tests and vectors that there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use meridian::lab::paths;
use meridian_vectors::{Connections, Vectors, connections};

/// The README's section: what is caught, and what is not.
fn section() -> (&'static str, &'static str) {
    let readme = include_str!("../README.md");
    let (_, section) = readme
        .split_once("\n## Mutations that were tried\n")
        .unwrap();
    let section = section.split("\n## ").next().unwrap_or_default();
    section.split_once("\nNot caught").unwrap()
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The text of every Rust file below `folder`.
fn sources(folder: &Path, texts: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_file_of_the_table_exists() {
    let root = paths::workspace_root().unwrap();
    let (caught, not_caught) = section();
    let files = quoted(caught).chain(quoted(not_caught));
    let missing: Vec<&str> = files
        .filter(|text| text.ends_with(".rs") && !root.join(text).is_file())
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_row_of_the_table_names_a_test_or_vector_that_exists() {
    let root = paths::workspace_root().unwrap();
    let mut code = String::new();
    for folder in ["filters", "harness", "tests"] {
        sources(&root.join(folder), &mut code);
    }
    let mut vectors: BTreeSet<String> = BTreeSet::new();
    for file in Vectors::all() {
        vectors.extend(file.cases.into_iter().map(|case| case.name));
    }
    let connections = Connections::with_port(connections::PORT);
    vectors.extend(connections.cases.into_iter().map(|case| case.name));
    let (caught, _) = section();
    // Behind the table's head and the line below it.
    let rows = caught.lines().filter(|line| line.starts_with('|')).skip(2);
    let mut wrong = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, _, file, caught_by, _] = cells.as_slice() else {
            panic!("a row of other than three cells: {row}");
        };
        let is_known = match quoted(caught_by).collect::<Vec<_>>().as_slice() {
            [vector] if caught_by.starts_with("vector `") => vectors.contains(*vector),
            [test] if caught_by.starts_with('`') => code.contains(&format!("fn {test}(")),
            _ => false,
        };
        if !is_known || !quoted(file).all(|file| file.ends_with(".rs")) || !file.contains('`') {
            wrong.push(row);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
