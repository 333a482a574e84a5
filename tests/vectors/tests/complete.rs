//! The list of files is complete, the cases reach every outcome, and the README counts them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use meridian_policy::{Action, Direction, DirectionEvidence, Vantage};
use meridian_vectors::{Case, FILES, POLICIES, Vectors, connections};

#[test]
fn the_list_holds_every_file_of_the_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files: Vec<_> = FILES.iter().chain([&connections::FILE]).collect();
    for (listed, below) in [(files, ""), (POLICIES.iter().collect(), "policies/")] {
        let listed: BTreeSet<String> = listed.iter().map(|(name, _)| (*name).to_owned()).collect();
        let mut there = BTreeSet::new();
        for entry in fs::read_dir(folder.join(below)).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                there.insert(format!("{below}{name}"));
            }
        }
        assert_eq!(listed, there, "src/lib.rs must list what is in {below:?}");
    }
}

#[test]
fn every_evidence_and_direction_has_an_allowed_case() {
    let all = Vectors::all();
    let allowed = || {
        let cases = all.iter().flat_map(|vectors| &vectors.cases);
        cases.filter(|case| case.expect.decision == Some(Action::Allow))
    };
    for evidence in DirectionEvidence::ALL {
        let is_expected = |case: &Case| case.expect.evidence == Some(*evidence);
        let is_no_request_s = match evidence {
            // Only an invalid host has that evidence, and it is refused.
            DirectionEvidence::InvalidHost => true,
            // Of connections that pass unread, which are tried in connections.rs.
            DirectionEvidence::MeshSni | DirectionEvidence::OutsideSni => true,
            _ => false,
        };
        assert!(is_no_request_s || allowed().any(is_expected), "{evidence}");
    }
    for vantage in Vantage::ALL {
        for direction in Direction::ALL {
            // An egress gateway always has a host to judge by, unless it refuses.
            let is_refused = (*vantage, *direction) == (Vantage::Egress, Direction::Unknown);
            let is_expected =
                |case: &Case| case.at == *vantage && case.expect.direction == Some(*direction);
            assert!(
                is_refused || allowed().any(is_expected),
                "{vantage}, {direction}"
            );
        }
    }
}

#[test]
fn the_readme_counts_the_vectors() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let count = format!("{} cases natively", meridian_vectors::count());
    assert!(readme.contains(&count), "the README does not say {count:?}");
}
