//! Where a plugin is attached, by its root id and by the node.

use meridian_policy::{Subject, Vantage};

use crate::host::Attributes;

/// Where a plugin is attached, as its root id says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attachment<'v> {
    /// The vantage points that it serves: all of its module, or the one that the root id names, which
    /// spares a sidecar the question at every request.
    pub(crate) vantages: &'v [Vantage],
    /// What it decides on.
    pub(crate) subject: Subject,
}

impl<'v> Attachment<'v> {
    /// Where a plugin of the host is attached, of a module for these vantage points.
    ///
    /// # Errors
    /// If the root id is one that the module does not serve: what to write instead.
    pub(crate) fn of<H: Attributes>(host: H, vantages: &'v [Vantage]) -> Result<Self, String> {
        let root_id = host.text("plugin_root_id").unwrap_or_default();
        let (name, subject) = match root_id.strip_suffix(".tcp") {
            Some(name) => (name, Subject::Connection),
            None => (&*root_id, Subject::Request),
        };
        let named = vantages.iter().find(|vantage| vantage.as_str() == name);
        let is_gateway = named.is_some() && vantages.len() == 1;
        if subject == Subject::Connection && !is_gateway {
            return Err(
                "the plugin's root id asks for a network filter that this module is not; write \
                 `ingress.tcp` or `egress.tcp` with the gateway's module"
                    .to_owned(),
            );
        }
        if named.is_none() && Vantage::from_word(name).is_some() {
            return Err(
                "the plugin's root id is one of another module; write `ingress`, `egress`, `inbound` or \
                 `outbound` with the module of that place"
                    .to_owned(),
            );
        }
        Ok(Self {
            vantages: named.map_or(vantages, std::slice::from_ref),
            subject,
        })
    }

    /// True if the node is of a kind that the module is not for. Istio writes the kind before the
    /// address, as in `sidecar~10.1.2.3~…`; of any other node nothing is concluded.
    pub(crate) fn is_misplaced<H: Attributes>(self, host: H) -> bool {
        let node = host.text("xds\0node\0id").unwrap_or_default();
        let Some((kind, _)) = node.split_once('~') else {
            return false;
        };
        match self.is_of_gateway() {
            true => kind == "sidecar",
            false => kind == "router" || kind == "waypoint",
        }
    }

    /// True for a gateway's module, false for a sidecar's.
    pub(crate) fn is_of_gateway(self) -> bool {
        self.vantages.iter().all(|vantage| vantage.is_gateway())
    }
}
