//! What a client gets for its request.

use anyhow::Context;

use super::raw;

/// An HTTP response, its header names in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Every header in its order; bytes that are not UTF-8 are replaced by U+FFFD.
    pub headers: Vec<(String, String)>,
    /// The body, whole; empty after a CONNECT that succeeded.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first value of the header `name`, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, such as an [`super::Arrival`].
    ///
    /// # Errors
    /// If it is something else; quotes it.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("status {}, not JSON: {}", self.status, self.text()))
    }
}

impl From<raw::Response> for Reply {
    fn from(response: raw::Response) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = response.headers.iter();
        Self {
            status: response.status,
            headers: headers
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
            body: response.body,
        }
    }
}
