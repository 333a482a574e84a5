//! Whether a request serves a component of the platform or an application.

use crate::document::reader::{Errors, Node};
use crate::model::mesh::read_hosts;
use crate::model::names::read_namespaces;
use crate::{ComponentType, Host, HostMap};

/// The section `components`: who is the system. Everything else is an application.
#[derive(Debug, Clone, Default)]
pub(crate) struct Components {
    pub(crate) namespaces: Vec<String>,
    hosts: HostMap,
}

impl Components {
    pub(crate) fn read(errors: &mut Errors, node: Option<Node<'_>>) -> Self {
        let mut components = Self::default();
        if let Some(node) = node
            && let Some(fields) = node.fields(errors, crate::fields::COMPONENTS)
            && let Some(node) = fields.get("system")
            && let Some(fields) = node.fields(errors, crate::fields::SYSTEM)
        {
            if let Some(node) = fields.get("namespaces") {
                components.namespaces = read_namespaces(errors, node);
            }
            if let Some(node) = fields.get("hosts") {
                components.hosts = read_hosts(errors, node);
            }
        }
        components
    }

    pub(crate) fn of_namespace(&self, namespace: Option<&str>) -> ComponentType {
        let known =
            namespace.is_some_and(|namespace| self.namespaces.iter().any(|name| name == namespace));
        if known {
            ComponentType::System
        } else {
            ComponentType::Application
        }
    }

    pub(crate) fn of_host(&self, host: &Host, port: &mut dyn FnMut() -> u16) -> ComponentType {
        if self.hosts.contains(host, port) {
            ComponentType::System
        } else {
            ComponentType::Application
        }
    }
}
