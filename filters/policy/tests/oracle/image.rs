//! A policy in an image is the policy that was put there, and a damaged image does no harm.

use meridian_policy::{Policy, Subject, Vantage};
use serde_json::{Value, json};

use crate::connections::decide_connection;
use crate::scan::decide;
use crate::world::{Dice, PlainPolicy, Seeded};

/// The document as it stands in an image.
fn without_hosts(document: &Value) -> Value {
    let mut document = document.clone();
    if let Some(sections) = document["hosts"].as_object_mut() {
        let rules = sections
            .values_mut()
            .filter_map(|section| section.get_mut("rules")?.as_array_mut());
        for rule in rules.flatten() {
            rule.as_object_mut().unwrap().remove("hosts");
        }
    }
    document
}

/// A policy's image, which stays for as long as the process.
fn image(policy: &Policy, document: &Value) -> &'static [u8] {
    let document = without_hosts(document).to_string();
    policy.to_image(&document).unwrap().leak()
}

#[test]
fn a_policy_in_an_image_decides_as_the_one_that_was_read() {
    let mut refused = 0;
    for seed in 0..400 {
        let vantage = Vantage::ALL[seed as usize % 4];
        let mut dice = Seeded(seed);
        let rules = if seed < 8 { 3_000 } else { dice.below(40) };
        let plain = PlainPolicy::roll(&mut dice, vantage, rules);
        let mut document = plain.document(&mut dice);
        document["revision"] = "00000000002a".into();
        let read = Policy::from_json(document.to_string()).unwrap();
        let placed = Policy::from_image(image(&read, &document)).unwrap();
        assert_eq!(placed.revision, Some(42));
        assert_eq!(placed.callers, read.callers);
        for _ in 0..30 {
            let request = plain.request(&mut dice);
            let expected = decide(&read, vantage, &request);
            assert_eq!(
                decide(&placed, vantage, &request),
                expected,
                "seed {seed}, {request:#?}"
            );
            refused += usize::from(expected.decision.as_str() == "deny");
            if matches!(vantage, Vantage::Ingress | Vantage::Egress) {
                let connection = plain.connection(&mut dice);
                assert_eq!(
                    decide_connection(&placed, vantage, &connection),
                    decide_connection(&read, vantage, &connection),
                    "seed {seed}, {connection:#?}"
                );
            }
        }
        // An image of what is in an image is that image.
        assert!(image(&placed, &document) == image(&read, &document));
    }
    assert!((1_000..11_000).contains(&refused), "{refused}");
}

/// A policy with everything that an image can hold.
fn full() -> (Policy, Value) {
    let rule =
        |name: &str, hosts: &[&str]| json!({"name": name, "hosts": hosts, "action": "allow"});
    let document = json!({"hosts": {"ingress": {"rules": [
        rule("a", &["a.example", "*.b.example", "*", "10.0.0.0/8", "2001:db8::/32", "a.example:80"]),
        rule("b", &["A.example.", "*", "c.example:8443", "10.0.0.0/8"]),
    ]}}});
    (Policy::from_json(document.to_string()).unwrap(), document)
}

#[test]
fn what_is_no_whole_image_is_refused() {
    let (policy, document) = full();
    let image = image(&policy, &document);
    Policy::from_image(image).unwrap();
    for length in 0..image.len() {
        assert!(Policy::from_image(&image[..length]).is_err(), "{length}");
    }
    let more: &[u8] = [image, b"\0"].concat().leak();
    let older: &[u8] = [b"mdn0", &image[4..]].concat().leak();
    for image in [more, older] {
        let [error] = &Policy::from_image(image).unwrap_err()[..] else {
            panic!("one error");
        };
        let error = error.to_string();
        assert!(
            error.contains("pack it again with `meridian pack --policy`"),
            "{error}"
        );
    }
    // Its rules are elsewhere than in the document: they would be empty.
    let without = without_hosts(&document).to_string();
    assert!(Policy::from_json(without).is_err());
}

#[test]
fn a_damaged_image_is_refused_or_decides_something() {
    let (policy, document) = full();
    let whole = image(&policy, &document);
    for place in 0..whole.len() {
        for bit in [0, 3, 7] {
            let mut bytes = whole.to_vec();
            bytes[place] ^= 1 << bit;
            let Ok(policy) = Policy::from_image(bytes.leak()) else {
                continue;
            };
            for authority in [
                "a.example",
                "x.b.example",
                "c.example:8443",
                "10.1.2.3",
                "z",
            ] {
                let mut request = meridian_policy::Request::new(authority.as_bytes());
                policy.decide(Vantage::Ingress, Subject::Request, &mut request);
            }
        }
    }
}
