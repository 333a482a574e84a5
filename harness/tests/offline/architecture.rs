//! Which part of the harness may use which: a verb uses no other verb, and nothing below the verbs
//! uses them or the command line. Read from the tokens of every source file.

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The paths that are written in the sources of one file, in use trees as well as in expressions.
#[derive(Default)]
pub(super) struct Paths {
    /// From the root of the crate: those that begin with `crate`, `self` or `super`.
    pub(super) absolute: Vec<Vec<String>>,
    /// The others, which lead to another crate, to a module below, or to what has been brought in,
    /// with the module that they stand in.
    pub(super) relative: Vec<(Vec<String>, Vec<String>)>,
}

impl Paths {
    /// Reads `tokens`, which stand in `module` and after `prefix`, as those of a use tree do.
    pub(super) fn read(&mut self, tokens: TokenStream, module: &[String], prefix: &[String]) {
        let mut path = prefix.to_vec();
        let mut continues = !prefix.is_empty();
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Ident(name) if name == "mod" => {
                    self.end(&mut path, module, prefix);
                    let inner = tokens.next().map(|name| name.to_string());
                    if let Some(TokenTree::Group(body)) = tokens.peek() {
                        let module: Vec<String> = module.iter().cloned().chain(inner).collect();
                        self.read(body.stream(), &module, &[]);
                        tokens.next();
                    }
                    continues = false;
                }
                TokenTree::Ident(name) => {
                    if !continues {
                        self.end(&mut path, module, &[]);
                    }
                    path.push(name.to_string());
                    continues = false;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => {
                    let is_separator = matches!(tokens.peek(),
                        Some(TokenTree::Punct(next)) if next.as_char() == ':');
                    if is_separator {
                        tokens.next();
                        continues = true;
                    } else {
                        self.end(&mut path, module, prefix);
                    }
                }
                TokenTree::Punct(mark) if mark.as_char() == '*' && continues => {
                    path.push("*".to_owned());
                    continues = false;
                }
                TokenTree::Punct(mark) => {
                    self.end(&mut path, module, prefix);
                    continues = mark.as_char() == ',' && !prefix.is_empty();
                }
                TokenTree::Group(group) => {
                    let is_use_tree = continues && group.delimiter() == Delimiter::Brace;
                    if is_use_tree {
                        self.read(group.stream(), module, &path);
                        path.clear();
                    } else {
                        self.end(&mut path, module, &[]);
                        self.read(group.stream(), module, &[]);
                    }
                    continues = false;
                }
                TokenTree::Literal(_) => {
                    self.end(&mut path, module, prefix);
                    continues = false;
                }
            }
        }
        self.end(&mut path, module, &[]);
    }

    /// Takes a path that has come to its end; the next one begins with `prefix`.
    fn end(&mut self, path: &mut Vec<String>, module: &[String], prefix: &[String]) {
        let written = std::mem::replace(path, prefix.to_vec());
        let mut names = written.iter().map(String::as_str).peekable();
        let mut absolute = match names.peek() {
            Some(&"crate") => Vec::new(),
            Some(&("self" | "super")) => module.to_vec(),
            Some(_) => {
                self.relative.push((module.to_vec(), written));
                return;
            }
            None => return,
        };
        while let Some(keyword) = names.next_if(|name| ["crate", "self", "super"].contains(name)) {
            if keyword == "super" {
                absolute.pop();
            }
        }
        // Without a name it is a visibility, as in `pub(super)`.
        if names.peek().is_some() {
            absolute.extend(names.map(str::to_owned));
            self.absolute.push(absolute);
        }
    }
}

/// The paths in `source`, the file of `module`, that lead where `module` must not go.
fn forbidden(module: &[&str], source: &str) -> Vec<String> {
    let module: Vec<String> = module.iter().map(|&name| name.to_owned()).collect();
    let mut paths = Paths::default();
    paths.read(source.parse().unwrap(), &module, &[]);
    let part = module.first().map(String::as_str);
    let is_forbidden = |path: &Vec<String>| match (part, path[0].as_str()) {
        (Some("cli"), _) => false,
        (Some("verbs"), "verbs") => path.get(1) != module.get(1),
        (_, to) => ["cli", "verbs", "*"].contains(&to),
    };
    let paths = paths.absolute.into_iter().filter(is_forbidden);
    paths.map(|path| path.join("::")).collect()
}

/// Every source file under `folder`.
pub(super) fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn nothing_uses_a_verb_but_the_command_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.contains(&root.join("verbs/check/mod.rs")));
    let mut wrong = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap().to_str().unwrap();
        // The binary is a crate beside this one.
        if name == "main.rs" {
            continue;
        }
        let module = name.trim_end_matches(".rs").split('/');
        let module: Vec<&str> = module
            .filter(|name| !["lib", "mod"].contains(name))
            .collect();
        let source = std::fs::read_to_string(&file).unwrap();
        let forbidden = forbidden(&module, &source);
        wrong.extend(forbidden.iter().map(|path| format!("{name} uses {path}")));
    }
    assert!(
        wrong.is_empty(),
        "what two verbs need belongs below them, beside verbs:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_way_to_name_a_verb_is_seen() {
    let verb = &["verbs", "learn", "judge"][..];
    let below = &["lab", "envoy"][..];
    for (module, source, expected) in [
        (
            verb,
            "use crate::verbs::explain::today;",
            "verbs::explain::today",
        ),
        (
            verb,
            "use crate::{lab::{paths, envoy}, verbs::{learn, top}};",
            "verbs::top",
        ),
        (
            verb,
            "fn f() { crate::verbs::top::run(); }",
            "verbs::top::run",
        ),
        (
            verb,
            "fn f() { println!(\"{}\", crate::verbs::top::X); }",
            "verbs::top::X",
        ),
        (
            verb,
            "#[arg(value_parser = crate::verbs::top::parse)] struct S;",
            "verbs::top::parse",
        ),
        (verb, "use super::super::top::run;", "verbs::top::run"),
        (
            verb,
            "mod tests { use super::super::super::top; }",
            "verbs::top",
        ),
        (verb, "use crate::verbs;", "verbs"),
        (verb, "use crate::verbs::*;", "verbs::*"),
        (verb, "use crate::*;", "*"),
        (verb, "use crate::cli::Cli;", "cli::Cli"),
        (&["verbs", "up"], "use super::top;", "verbs::top"),
        (&["verbs"], "use self::top::run;", "verbs::top::run"),
        (below, "use crate::verbs::learn;", "verbs::learn"),
        (below, "use crate::{cli, text};", "cli"),
    ] {
        assert_eq!(forbidden(module, source), [expected], "{source}");
    }
    for (module, source) in [
        (
            verb,
            "use crate::verbs::learn::group; use super::group; use crate::lab::verbs;",
        ),
        (
            verb,
            "pub(super) fn f() {} pub(crate) fn g() {} pub(in crate::verbs::learn) fn h() {}",
        ),
        (verb, "mod tests { use super::*; use super::super::group; }"),
        (
            verb,
            "use std::{fmt, io::{self, Write}}; /// [`crate::verbs::top`]\nstruct S;",
        ),
        (
            verb,
            "// crate::verbs::top\nconst TEXT: &str = \"crate::verbs::top\";",
        ),
        (&["verbs", "up"], "mod tests { use super::*; }"),
        (below, "use crate::policy::{self, query}; use super::paths;"),
        (&["cli"], "use crate::verbs::{learn, top};"),
        (&[], "pub mod cli; pub mod verbs; mod output;"),
    ] {
        assert_eq!(forbidden(module, source), [""; 0], "{source}");
    }
}
