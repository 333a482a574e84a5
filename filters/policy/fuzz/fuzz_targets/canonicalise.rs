//! Any bytes as an authority: no panic, and canonicalising twice changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meridian_policy::{Authority, Pattern};

fuzz_target!(|raw: &[u8]| {
    if let Ok(text) = std::str::from_utf8(raw)
        && let Err(error) = Pattern::parse(text)
    {
        assert!(!error.message.is_empty() && !error.hint.is_empty());
    }
    let Ok(once) = Authority::parse(raw) else {
        return;
    };
    let text = once.to_string();
    assert_eq!(Authority::parse(text.as_bytes()).as_ref(), Ok(&once));
    assert!(!text.bytes().any(|byte| byte.is_ascii_uppercase()));
    // What is a host in a request is one in a rule.
    assert!(Pattern::parse(&text).is_ok());
});
