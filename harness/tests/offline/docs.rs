//! `meridian docs`: completions, man pages, and the README's table of verbs.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use clap::CommandFactory;
use meridian::cli::Cli;
use meridian::lab::envoy::RELEASES;
use meridian::verbs::docs::{man_pages, verbs};

use crate::golden::assert_golden;

fn docs(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    command.arg("docs").args(arguments).output().unwrap()
}

/// The stdout of a command that ends well.
fn stdout(output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_readme_has_the_table_of_verbs() {
    const BEGIN: &str = "<!-- meridian docs verbs -->\n";
    const END: &str = "<!-- end -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect(BEGIN);
    let (_, after) = rest.split_once(END).expect(END);
    let table = verbs(Cli::command());
    assert_eq!(stdout(docs(&["verbs"])), table);
    assert_golden(&path, &format!("{before}{BEGIN}{table}{END}{after}"));
}

#[test]
fn the_readme_has_every_release_of_envoy() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let listed: Vec<&str> = readme
        .lines()
        .skip_while(|line| !line.starts_with("| Envoy | of Istio |"))
        .skip(2)
        .map_while(|line| line.strip_prefix("| "))
        .filter_map(|row| row.split(" | ").nth(2))
        .collect();
    assert_eq!(listed, RELEASES.map(|release| release.version));
}

#[test]
fn bash_completes() {
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), stdout(docs(&["completions", "bash"]))).unwrap();
    let bash = |arguments: &[&str]| {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "--noprofile"]).args(arguments);
        stdout(bash.arg(script.path()).output().unwrap())
    };
    assert_eq!(bash(&["-n"]), "");
    // What bash does at the Tab key: the words so far, the last one unfinished.
    let complete = |words: &str| {
        let lines = format!(
            "source \"$0\"; complete -p meridian >&2 || exit; COMP_WORDS=({words}); \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _meridian meridian \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        bash(&["-c", &lines])
    };
    assert_eq!(complete("meridian che"), "check\n");
    assert_eq!(complete("meridian render is"), "istio\n");
    assert_eq!(complete("meridian check --str"), "--strict\n");
    assert_eq!(complete("meridian learn --format se"), "service-entries\n");
}

#[test]
fn every_shell_has_completions() {
    for (shell, mark) in [
        ("bash", "complete -F _meridian"),
        ("elvish", "edit:completion:arg-completer[meridian]"),
        ("fish", "complete -c meridian"),
        ("powershell", "Register-ArgumentCompleter"),
        ("zsh", "#compdef meridian"),
    ] {
        let script = stdout(docs(&["completions", shell]));
        assert!(script.contains(mark), "{shell}: {script}");
        assert!(script.contains("min-requests"), "{shell}: {script}");
    }
}

#[test]
fn every_verb_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man1");
    stdout(docs(&["man", "--out", out.to_str().unwrap()]));
    let mut written = BTreeSet::new();
    for entry in std::fs::read_dir(&out).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let page = std::fs::read_to_string(entry.path()).unwrap();
        let title = name.strip_suffix(".1").unwrap();
        let version = env!("CARGO_PKG_VERSION");
        // Without a date, so that the same sources give the same bytes.
        let head = format!(".TH {title} 1 \" \" \"meridian {version}\" Meridian");
        assert!(page.contains(&head), "{page}");
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"] {
            let heading = format!("\n.SH {section}\n");
            assert!(page.contains(&heading), "{name} has no {section}: {page}");
        }
        written.insert((name, page));
    }
    let again = man_pages(Cli::command()).unwrap();
    assert_eq!(written, again.into_iter().collect());
    let names: BTreeSet<&str> = written.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["meridian.1", "meridian-check.1", "meridian-render-istio.1"] {
        assert!(names.contains(name), "{names:?}");
    }
    for verb in Cli::command().get_subcommands() {
        let name = format!("meridian-{}.1", verb.get_name());
        assert!(names.contains(name.as_str()), "{name}: {names:?}");
    }
}

/// Needs groff or mandoc; where neither is installed, says so and does nothing.
#[test]
fn man_pages_render_without_warnings() {
    let renderers: [&[&str]; 2] = [
        &["groff", "-man", "-Tutf8", "-ww"],
        &["mandoc", "-Tutf8", "-Wwarning"],
    ];
    let is_there = |renderer: &&&[&str]| {
        let mut command = Command::new(renderer[0]);
        command.arg("/dev/null").output().is_ok()
    };
    let Some(renderer) = renderers.iter().find(is_there) else {
        eprintln!("man_pages_render_without_warnings: skipped, neither groff nor mandoc is here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for (name, page) in man_pages(Cli::command()).unwrap() {
        let path = folder.path().join(&name);
        std::fs::write(&path, page).unwrap();
        let mut command = Command::new(renderer[0]);
        let output = command.args(&renderer[1..]).arg(&path).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.is_empty(), "{name}: {stderr}");
        // The foot of the page, which is not set in bold.
        let foot = concat!("meridian ", env!("CARGO_PKG_VERSION"));
        assert!(stdout(output).contains(foot), "{name}");
    }
}

#[test]
fn misuse_exits_2() {
    for (arguments, words) in [
        (&["completions", "tcsh"][..], "possible values: bash"),
        (&["completions"], "<SHELL>"),
        (&["man"], "--out <DIR>"),
        (
            &["man", "--out", "/dev/null/man"],
            "cannot create the folder",
        ),
        (&["man", "--out", "/dev/null"], "cannot create the folder"),
        (&["poems"], "unrecognized subcommand"),
        (&[], "Usage: meridian docs"),
    ] {
        let output = docs(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(words), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_full_disk_is_an_error() {
    for arguments in [&["completions", "zsh"][..], &["verbs"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
        command.arg("docs").args(arguments).stdout(full);
        let output = command.stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(
            stderr.contains("cannot write to standard output"),
            "{stderr}"
        );
    }
}
