//! Any bytes as a policy: no panic, and every error can be acted on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meridian_policy::{Policy, Request, Subject, Vantage};

fuzz_target!(|json: &[u8]| {
    match Policy::from_json(json) {
        Ok(policy) => {
            for vantage in Vantage::ALL {
                let verdict = policy.decide(
                    *vantage,
                    Subject::Request,
                    &mut Request::new(b"shop.example.com"),
                );
                assert_eq!(
                    policy.refusal(&verdict).is_some(),
                    verdict.decision.as_str() == "deny"
                );
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                assert!(!error.message.is_empty() && !error.hint.is_empty());
                let line = error.to_string();
                assert!(!line.contains('\n'), "{line:?}");
            }
        }
    }
});
