//! What `--help` prints, for every verb, at a fixed width.

use std::collections::BTreeSet;
use std::path::Path;

use clap::{Command, CommandFactory};
use meridian::cli::Cli;

use crate::golden::{UPDATE, assert_golden, updates};

const WIDTH: usize = 100;

/// The help of `command` and of every verb below it, each with its full name.
fn help(command: &Command, into: &mut Vec<(String, String)>) {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let text = command.clone().render_long_help().to_string();
    into.push((name.to_owned(), text));
    for verb in command.get_subcommands() {
        // clap's own verb, whose help is that of the others.
        if verb.get_name() != "help" {
            help(verb, into);
        }
    }
}

#[test]
fn help_is_the_golden_files() {
    let mut command = Cli::command().term_width(WIDTH);
    command.build();
    let mut all = Vec::new();
    help(&command, &mut all);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/offline/help");
    let mut names = BTreeSet::new();
    for (name, text) in all {
        let name = format!("{name}.txt");
        assert_golden(&folder.join(&name), &text);
        names.insert(name);
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if names.contains(&name) {
            continue;
        }
        assert!(
            updates(),
            "{name} is the help of no verb; to remove it, run\n{UPDATE}"
        );
        std::fs::remove_file(entry.path()).unwrap();
    }
}

#[test]
fn help_is_wrapped_at_the_width() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/offline/help");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let widest = text.lines().map(str::len).max().unwrap_or_default();
        assert!(widest <= WIDTH, "{}: {widest}", path.display());
    }
}
