//! The whole policy, read from its document.

use std::sync::Arc;

use crate::document::fields::REVISION_DIGITS;
use crate::document::reader::{Errors, Fields, Node};
use crate::image::{Reader, Writer};
use crate::model::component::Components;
use crate::model::gateways;
use crate::{Action, ConfigError, Document, HostMap, Mesh, Mode, Section, SniMode, Tags, Vantage};

/// What an image begins with: another number when anything in it changes.
const VERSION: u32 = u32::from_le_bytes(*b"mdn1");

/// A policy, ready to decide. See [`Policy::decide`].
#[derive(Debug, Clone)]
pub struct Policy {
    /// Which policy it is: what the document says, else of JSON the hash of its text, see
    /// [`crate::revision`], and of a document nothing.
    pub revision: Option<u64>,
    /// What is inside.
    pub mesh: Mesh,
    pub(crate) components: Components,
    sections: [Section; 4],
    /// Whether invalid hosts are refused; in dry run the section's default decides on them.
    pub invalid: Mode,
    /// What a mismatch of SNI and authority means.
    pub sni: Sni,
    /// What a refused client gets.
    pub deny: Deny,
    /// Where the tags go.
    pub tags: Tags,
    /// What is measured when a request has ended.
    pub metrics: Metrics,
    /// The namespaces that the label `source_namespace` of the egress gateway's metric tells apart,
    /// sorted.
    pub callers: Vec<String>,
}

/// The section `sni`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sni {
    /// What a mismatch does.
    pub mismatch: SniMode,
    /// What TLS without a server name does.
    pub missing: SniMode,
    /// The status of a refusal; 421 (Misdirected Request, RFC 9110) makes browsers try again on a
    /// connection of its own.
    pub status: u16,
}

/// The section `metrics`: what costs a callback at the end of every request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Responses are counted by the class of their code.
    pub responses: bool,
    /// Durations are observed.
    pub durations: bool,
}

impl Metrics {
    /// True if anything is measured when a request has ended.
    pub const fn any(self) -> bool {
        self.responses || self.durations
    }
}

/// The section `deny`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deny {
    /// The HTTP status, 403 by default.
    pub status: u16,
    /// The body, which says nothing of rules.
    pub body: String,
}

impl Policy {
    /// Reads a policy in JSON, as a filter gets it: with the rules of its own gateway, so that none
    /// names gateways. The text is kept: the names of hosts stay in it.
    ///
    /// # Errors
    /// Every error of the document, each with its place.
    pub fn from_json(json: impl Into<Vec<u8>>) -> Result<Self, Vec<ConfigError>> {
        let source = Arc::new(json.into());
        let document = Document::from_json(&source).map_err(|error| vec![error])?;
        let mut errors = Errors::new(Arc::clone(&source), true);
        let policy = Self::read(&mut errors, Node::root(&document));
        let mut policy = read_without(errors, policy)?;
        policy
            .revision
            .get_or_insert_with(|| crate::revision(&source));
        Ok(policy)
    }

    /// Reads a policy from its document, with all that it says of gateways.
    ///
    /// # Errors
    /// Every error of the document, each with its place.
    pub fn from_document(document: &Document<'_>) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Errors::new(Arc::default(), false);
        let root = Node::root(document);
        let mut policy = Self::read(&mut errors, root);
        let (mesh, sections) = match &mut policy {
            Some(policy) => (Some(&mut policy.mesh), policy.sections.as_mut_slice()),
            None => Default::default(),
        };
        gateways::read(&mut errors, root, mesh, sections);
        read_without(errors, policy)
    }

    /// The policy of an image that [`Self::to_image`] wrote. The tables of hosts stay where they are:
    /// nothing is read of them but their lengths.
    ///
    /// # Errors
    /// If it is no image, or one of another version; and every error of the document in it.
    pub fn from_image(image: &'static [u8]) -> Result<Self, Vec<ConfigError>> {
        let damaged = || {
            vec![ConfigError {
                path: String::new(),
                message: "is damaged, or of another version than the module".to_owned(),
                hint: "pack it again with `meridian pack --policy`".to_owned(),
            }]
        };
        let mut image = Reader(image);
        let document = image.word().filter(|version| *version == VERSION);
        let document = document.and_then(|_| image.bytes()).ok_or_else(damaged)?;
        let document = Document::from_json(document).map_err(|error| vec![error])?;
        let mut errors = Errors::new(Arc::default(), true);
        errors.has_image = true;
        let policy = Self::read(&mut errors, Node::root(&document));
        let mut policy = read_without(errors, policy)?;
        for section in &mut policy.sections {
            section.hosts = HostMap::from_image(&mut image).ok_or_else(damaged)?;
        }
        if !image.0.is_empty() {
            return Err(damaged());
        }
        Ok(policy)
    }

    /// The policy as an image: its `document` as a filter gets it, but in which rules have no `hosts`, and
    /// the tables of these. `None` if it is too large.
    pub fn to_image(&self, document: &str) -> Option<Vec<u8>> {
        let mut image = Writer::default();
        image.word(VERSION);
        image.bytes(document.as_bytes())?;
        for section in &self.sections {
            section.hosts.to_image(&mut image)?;
        }
        Some(image.0)
    }

    fn read(errors: &mut Errors, root: Node<'_>) -> Option<Self> {
        let fields = root.fields(errors, crate::fields::POLICY)?;
        let revision = read_revision(errors, fields.get("revision"));
        let mesh = Mesh::read(errors, fields.get("mesh"));
        let components = Components::read(errors, fields.get("components"));
        let (sections, invalid) = read_sections(errors, fields);
        let sni = read_sni(errors, fields.get("sni"));
        let deny = read_deny(errors, fields.get("deny"));
        let tags = Tags::read(errors, fields.get("tags"));
        let metrics = read_metrics(errors, fields.get("metrics"));
        let mut mesh = mesh?;
        let callers = callers(&mesh, &components, &sections);
        mesh.know_namespaces(components.namespaces.iter().map(String::as_str));
        Some(Self {
            revision,
            mesh,
            components,
            sections,
            invalid,
            sni,
            deny,
            tags,
            metrics,
            callers,
        })
    }

    /// True if a rule expires, so that a decision can depend on the day.
    pub fn has_expiring_rules(&self) -> bool {
        let mut rules = self.sections.iter().flat_map(|section| &section.rules);
        rules.any(|rule| rule.expires.is_some())
    }

    /// The host rules of a vantage point.
    pub fn section(&self, vantage: Vantage) -> &Section {
        let [ingress, egress, inbound, outbound] = &self.sections;
        match vantage {
            Vantage::Ingress => ingress,
            Vantage::Egress => egress,
            Vantage::Inbound => inbound,
            Vantage::Outbound => outbound,
        }
    }
}

/// The policy that was read, if it was read without an error.
fn read_without(errors: Errors, policy: Option<Policy>) -> Result<Policy, Vec<ConfigError>> {
    match errors.into_result(policy)? {
        Some(policy) => Ok(policy),
        None => Err(vec![ConfigError {
            path: String::new(),
            message: "cannot be read".to_owned(),
            hint: "write a mapping with the fields of a policy".to_owned(),
        }]),
    }
}

fn read_revision(errors: &mut Errors, node: Option<Node<'_>>) -> Option<u64> {
    let node = node?;
    let text = node.string(errors)?;
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() == REVISION_DIGITS && text.bytes().all(is_digit) {
        return u64::from_str_radix(text, 16).ok();
    }
    let hint = "write the 12 digits of 0-9 and a-f that `meridian check` prints, in quotes";
    errors.add_quoted(&node.path, text, "is not a revision", hint);
    None
}

/// The sections in the order of [`Vantage::ALL`], and the mode for invalid hosts. Gateways refuse what
/// no one wrote a rule for.
fn read_sections(errors: &mut Errors, fields: Fields<'_>) -> ([Section; 4], Mode) {
    let hosts = fields.get("hosts");
    let fields = hosts
        .as_ref()
        .and_then(|node| node.fields(errors, crate::fields::HOSTS));
    let invalid = fields.and_then(|fields| fields.get("invalid"));
    let invalid = invalid.and_then(|node| node.word(errors));
    let mut section = |name, default| match fields.and_then(|fields| fields.get(name)) {
        Some(node) => Section::read(errors, node, default),
        None => Section::new(default),
    };
    let sections = [
        section("ingress", Action::Deny),
        section("egress", Action::Deny),
        section("inbound", Action::Allow),
        section("outbound", Action::Allow),
    ];
    (sections, invalid.unwrap_or(Mode::Enforce))
}

fn read_sni(errors: &mut Errors, node: Option<Node<'_>>) -> Sni {
    let mut sni = Sni {
        mismatch: SniMode::Deny,
        missing: SniMode::Ignore,
        status: 421,
    };
    if let Some(node) = node
        && let Some(fields) = node.fields(errors, crate::fields::SNI)
    {
        for (field, mode) in [
            ("mismatch", &mut sni.mismatch),
            ("missing", &mut sni.missing),
        ] {
            if let Some(word) = fields.get(field).and_then(|node| node.word(errors)) {
                *mode = word;
            }
        }
        if let Some(status) = fields
            .get("status")
            .and_then(|node| node.number(errors, crate::fields::STATUS.0, crate::fields::STATUS.1))
        {
            sni.status = status;
        }
    }
    sni
}

fn read_metrics(errors: &mut Errors, node: Option<Node<'_>>) -> Metrics {
    let fields = node
        .as_ref()
        .and_then(|node| node.fields(errors, crate::fields::METRICS));
    fields.map_or_else(Metrics::default, |fields| Metrics {
        responses: fields.flag(errors, "responses"),
        durations: fields.flag(errors, "durations"),
    })
}

/// The namespaces that the policy names, as the egress gateway's callers.
fn callers(mesh: &Mesh, components: &Components, sections: &[Section; 4]) -> Vec<String> {
    let mut callers: Vec<String> = Vec::new();
    let mut name = |namespace: &str| {
        if let Err(index) = callers.binary_search_by(|name| name.as_str().cmp(namespace)) {
            callers.insert(index, namespace.to_owned());
        }
    };
    mesh.namespaces.iter().for_each(|namespace| name(namespace));
    let gateways = mesh.ingress_gateways.iter().chain(&mesh.egress_gateways);
    gateways.for_each(|gateway| name(gateway.principal.namespace()));
    components
        .namespaces
        .iter()
        .for_each(|namespace| name(namespace));
    let [_, egress, _, _] = sections;
    for from in egress.rules.iter().filter_map(|rule| rule.from.as_ref()) {
        from.each_namespace(&mut name);
    }
    callers
}

#[cold]
#[inline(never)]
fn refuse_body(errors: &mut Errors, node: Node<'_>) {
    let hint = "write at most 65536 bytes, such as the address of a page that says more";
    errors.add(&node.path, "is longer than 64 KiB", hint);
}

fn read_deny(errors: &mut Errors, node: Option<Node<'_>>) -> Deny {
    let mut deny = Deny {
        status: 403,
        body: "host not allowed\n".to_owned(),
    };
    if let Some(node) = node
        && let Some(fields) = node.fields(errors, crate::fields::DENY)
    {
        if let Some(status) = fields
            .get("status")
            .and_then(|node| node.number(errors, crate::fields::STATUS.0, crate::fields::STATUS.1))
        {
            deny.status = status;
        }
        if let Some(node) = fields.get("body")
            && let Some(body) = node.string(errors)
        {
            if body.len() > crate::fields::MAX_BODY {
                refuse_body(errors, node);
            } else {
                deny.body = body.to_owned();
            }
        }
    }
    deny
}
