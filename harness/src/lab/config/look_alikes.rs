//! The filter that removes headers which only look like a tag.
//!
//! Many frameworks read `X_Traffic_Direction` and `X-Traffic-Direction` as one header. Envoy could drop
//! every header with an underscore, but then `client_id` and its like would be lost to every workload.

use meridian_policy::Tags;
use serde_json::{Value, json};

use super::type_url::type_url;

/// The name of the filter in every filter chain.
const NAME: &str = "meridian.look-alikes";

/// The HTTP filter that removes from requests, and their trailers, every header whose name is that of a
/// tag with `_` in the place of one `-` or more. The tags themselves are the policy filter's.
pub fn look_alike_filter(tags: &Tags) -> Value {
    let headers = [
        Some(&tags.direction_header),
        tags.component_header.as_ref(),
        tags.evidence_header.as_ref(),
    ];
    let removed: Vec<Value> = headers
        .into_iter()
        .flatten()
        .filter_map(|header| look_alikes(header))
        .map(|regex| json!({"remove_on_match": {"key_matcher": {"safe_regex": {"regex": regex}}}}))
        .collect();
    json!({
        "name": NAME,
        "typed_config": {
            "@type": type_url("extensions.filters.http.header_mutation.v3.HeaderMutation"),
            "mutations": {
                "request_mutations": removed,
                "request_trailers_mutations": removed,
            },
        },
    })
}

/// A regular expression for every mix of `-` and `_` but the name itself; `None` for a name without `-`.
///
/// RE2 has no negation, so there is an alternative for each place of the first `_`.
fn look_alikes(header: &str) -> Option<String> {
    let alternatives: Vec<String> = header
        .match_indices('-')
        .map(|(at, _)| {
            let (before, after) = (&header[..at], &header[at + 1..]);
            format!("{before}_{}", after.replace('-', "[-_]"))
        })
        .collect();
    (!alternatives.is_empty()).then(|| alternatives.join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mix_is_told_from_the_name_itself() {
        assert_eq!(look_alikes("direction"), None);
        assert_eq!(look_alikes("x-way").as_deref(), Some("x_way"));
        assert_eq!(
            look_alikes("x-a-b-c").as_deref(),
            Some("x_a[-_]b[-_]c|x-a_b[-_]c|x-a-b_c")
        );
        assert_eq!(
            look_alikes("x--y-").as_deref(),
            Some("x_[-_]y[-_]|x-_y[-_]|x--y_")
        );
    }
}
