//! Workload identities, and the patterns that rules name them with.

use std::fmt;

/// A peer's identity as Istio writes it: `TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal(String);

impl Principal {
    /// Reads the URI of a certificate, `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, or the
    /// same without its scheme. `None` for anything else: an identity of another scheme is no
    /// identity of a mesh.
    pub fn parse(uri: &str) -> Option<Self> {
        let text = uri.strip_prefix("spiffe://").unwrap_or(uri);
        let mut parts = text.split('/');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let (_domain, ns, _namespace, sa, _account) = (next()?, next()?, next()?, next()?, next()?);
        (ns == "ns" && sa == "sa" && parts.next().is_none()).then(|| Self(text.to_owned()))
    }

    /// `TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        self.part(0)
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        self.part(2)
    }

    /// The service account.
    pub fn service_account(&self) -> &str {
        self.part(4)
    }

    fn part(&self, index: usize) -> &str {
        self.0.split('/').nth(index).unwrap_or_default()
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pattern over principals or namespaces, with the wildcards of Istio's AuthorizationPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrincipalPattern {
    /// `*`: every identity, but not the lack of one.
    Present,
    /// `cluster.local/ns/shop/sa/shop`
    Exact(Box<str>),
    /// `cluster.local/ns/shop/*`, stored without its `*`.
    Prefix(Box<str>),
    /// `*/sa/shop`, stored without its `*`.
    Suffix(Box<str>),
}

impl PrincipalPattern {
    /// Reads a pattern; `None` if a `*` stands elsewhere than first or last.
    pub fn parse(text: &str) -> Option<Self> {
        let pattern = match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(""), _) => return Some(Self::Present),
            (Some(suffix), _) => Self::Suffix(suffix.into()),
            (None, Some(prefix)) => Self::Prefix(prefix.into()),
            (None, None) => Self::Exact(text.into()),
        };
        match &pattern {
            Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text) => {
                (!text.is_empty() && !text.contains('*')).then_some(pattern)
            }
            Self::Present => Some(pattern),
        }
    }

    /// True if the pattern matches.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(exact) => text == &**exact,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Suffix(suffix) => text.ends_with(&**suffix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mesh_form_is_an_identity() {
        let principal = Principal::parse("spiffe://cluster.local/ns/shop/sa/cart").unwrap();
        assert_eq!(principal.as_str(), "cluster.local/ns/shop/sa/cart");
        assert_eq!(
            (
                principal.trust_domain(),
                principal.namespace(),
                principal.service_account()
            ),
            ("cluster.local", "shop", "cart")
        );
        for uri in [
            "",
            "spiffe://cluster.local",
            "spiffe://cluster.local/ns/shop/sa/",
            "spiffe:///ns/shop/sa/cart",
            "spiffe://cluster.local/ns/shop/sa/cart/x",
            "spiffe://cluster.local/xx/shop/sa/cart",
            "spiffe://cluster.local/ns/shop/xx/cart",
            "https://cluster.local/ns/shop/sa/cart",
        ] {
            assert_eq!(Principal::parse(uri), None, "{uri}");
        }
    }
}
