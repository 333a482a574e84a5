//! Files of one crate use each other in one direction: no circle of imports. Read from the tokens of
//! every source file, with what a module hands on (`pub use`) traced to where it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

use crate::architecture::{Paths, sources};

/// A module, from the root of its crate.
type Module = Vec<String>;

/// The files of a crate by their modules.
#[derive(Default)]
struct Crate {
    modules: BTreeSet<Module>,
    /// What a module hands on, by its name there, and the path that it has.
    handed_on: BTreeMap<(Module, String), Vec<String>>,
    /// The paths that a module's file uses, from the root of the crate.
    used: BTreeMap<Module, Vec<Vec<String>>>,
}

impl Crate {
    /// Reads every file by its module.
    fn read(files: &[(Module, String)]) -> Self {
        let mut read = Self {
            modules: files.iter().map(|(module, _)| module.clone()).collect(),
            ..Self::default()
        };
        for (module, source) in files {
            let (handed_on, rest) = split(source.parse().unwrap());
            let mut used = read.paths(rest, module);
            for path in read.paths(handed_on, module) {
                if !path.starts_with(module) {
                    // An index hands on what lies below it; anything else is used.
                    used.push(path.clone());
                }
                if let Some(name) = path.last() {
                    let key = (module.clone(), name.clone());
                    read.handed_on.insert(key, path);
                }
            }
            read.used.insert(module.clone(), used);
        }
        read
    }

    /// Every path in the tokens of a module's file that stays in the crate, from its root.
    fn paths(&self, tokens: TokenStream, module: &[String]) -> Vec<Vec<String>> {
        let mut paths = Paths::default();
        paths.read(tokens, module, &[]);
        let below = paths.relative.into_iter().filter_map(|(within, path)| {
            let child = [&within[..], &path[..1]].concat();
            let is_child = within == module && self.modules.contains(&child);
            is_child.then(|| [&within[..], &path[..]].concat())
        });
        let below: Vec<_> = below.collect();
        paths.absolute.into_iter().chain(below).collect()
    }

    /// The module in whose file what a path names stands.
    fn home(&self, path: &[String]) -> Module {
        let mut module = Module::new();
        for (place, name) in path.iter().enumerate() {
            let child = [&module[..], &path[place..=place]].concat();
            if self.modules.contains(&child) {
                module = child;
            } else if let Some(elsewhere) = self.handed_on.get(&(module.clone(), name.clone())) {
                return self.home(elsewhere);
            } else {
                break;
            }
        }
        module
    }

    /// The files that each file uses.
    fn arrows(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let arrows = self.used.iter().map(|(module, paths)| {
            let homes = paths.iter().map(|path| self.home(path));
            (module, homes.filter(|home| home != module).collect())
        });
        arrows.collect()
    }

    /// The files that lie on a circle.
    fn circles(&self) -> Vec<String> {
        let arrows = self.arrows();
        let reached = |from: &Module| {
            let mut reached = BTreeSet::new();
            let mut next: Vec<&Module> = arrows[from].iter().collect();
            while let Some(module) = next.pop() {
                if reached.insert(module) {
                    next.extend(arrows.get(module).into_iter().flatten());
                }
            }
            reached.contains(from)
        };
        let on_circle = self.modules.iter().filter(|module| reached(module));
        on_circle.map(|module| module.join("::")).collect()
    }
}

/// What a file hands on, and the rest of it without its tests.
fn split(tokens: TokenStream) -> (TokenStream, TokenStream) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is = |place: usize, word: &str| matches!(tokens.get(place), Some(TokenTree::Ident(name)) if name == word);
    let (mut handed_on, mut rest) = (Vec::new(), Vec::new());
    let mut place = 0;
    while let Some(token) = tokens.get(place) {
        let visibility =
            1 + usize::from(matches!(tokens.get(place + 1), Some(TokenTree::Group(_))));
        if is(place, "pub") && is(place + visibility, "use") {
            let ends = |token: &TokenTree| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ';');
            let from = place + visibility + 1;
            let length = tokens[from..].iter().position(ends).unwrap();
            handed_on.extend_from_slice(&tokens[from..=from + length]);
            place = from + length + 1;
        } else if is(place, "mod") && is(place + 1, "tests") {
            place += 3;
        } else {
            rest.push(token.clone());
            place += 1;
        }
    }
    (handed_on.into_iter().collect(), rest.into_iter().collect())
}

fn crate_at(root: &Path) -> Crate {
    let mut files = Vec::new();
    sources(root, &mut files);
    let files = files.iter().filter_map(|file| {
        let name = file.strip_prefix(root).unwrap().to_str().unwrap();
        // The binary is a crate beside this one.
        if name == "main.rs" {
            return None;
        }
        let parts = name.trim_end_matches(".rs").split('/');
        let module = parts.filter(|part| !["lib", "mod"].contains(part));
        let source = std::fs::read_to_string(file).unwrap();
        Some((module.map(str::to_owned).collect(), source))
    });
    Crate::read(&files.collect::<Vec<_>>())
}

#[test]
fn no_files_of_a_crate_use_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for folder in [
        "filters/policy/src",
        "filters/metrics/src",
        "filters/plugin/src",
        "harness/src",
        "tests/vectors/src",
    ] {
        let read = crate_at(&root.join(folder));
        assert!(!read.modules.is_empty(), "{folder}");
        let circles = read.circles();
        assert!(circles.is_empty(), "{folder}:\n{}", circles.join("\n"));
    }
}

#[test]
fn every_kind_of_circle_is_seen() {
    let files = |texts: &[(&str, &str)]| -> Vec<(Module, String)> {
        let module = |name: &str| {
            name.split("::")
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect()
        };
        texts
            .iter()
            .map(|(name, text)| (module(name), (*text).to_owned()))
            .collect()
    };
    for (texts, expected) in [
        (
            &[
                ("", "mod a; mod b;"),
                ("a", "use crate::b::B;"),
                ("b", "use crate::a::A;"),
            ][..],
            &["a", "b"][..],
        ),
        // Through what another file hands on.
        (
            &[
                ("", "mod a; mod b; pub use b::{B, C};"),
                ("a", "use crate::B;"),
                ("b", "fn f() { crate::a::g(); }"),
            ],
            &["a", "b"],
        ),
        // A module and what lies below it.
        (
            &[
                ("", "mod a;"),
                ("a", "mod b; use b::B; struct A;"),
                ("a::b", "use super::A;"),
            ],
            &["a", "a::b"],
        ),
        (
            &[
                ("", "mod a; mod b; mod c;"),
                ("a", "use crate::b;"),
                ("b", "use super::c::C;"),
                ("c", "use crate::{a, x};"),
            ],
            &["a", "b", "c"],
        ),
        (
            &[
                ("", "mod a; mod b;"),
                ("a", "use crate::b::B;"),
                ("b", "mod tests { use crate::a::A; }"),
            ],
            &[],
        ),
        // A file that hands on what stands elsewhere.
        (
            &[
                ("", "mod a; mod b;"),
                ("a", "pub use crate::b::B;"),
                ("b", "use crate::a::A;"),
            ],
            &["a", "b"],
        ),
        // An index that only hands on is on no circle.
        (
            &[
                ("", "mod a;"),
                ("a", "mod b; mod c; pub use b::B; pub(crate) use c::C;"),
                ("a::b", "use super::C;"),
                ("a::c", "struct C;"),
            ],
            &[],
        ),
    ] {
        assert_eq!(Crate::read(&files(texts)).circles(), expected, "{texts:?}");
    }
}
