//! The plugins of this VM, by their root contexts.

use std::cell::RefCell;
use std::rc::Rc;

use crate::plugin::Filters;

/// What requests and connections need of their plugin.
#[derive(Default)]
pub(super) struct Plugin {
    /// `None` without a policy.
    pub(super) filters: RefCell<Option<Rc<Filters>>>,
}

thread_local! {
    /// One, or for a while two when a policy was exchanged.
    static PLUGINS: RefCell<Vec<(u32, Rc<Plugin>)>> = const { RefCell::new(Vec::new()) };
}

/// Makes a plugin known by its root context.
pub(super) fn register(root: u32, plugin: Rc<Plugin>) {
    PLUGINS.with_borrow_mut(|plugins| plugins.push((root, plugin)));
}

/// What `of` makes of the plugin of a root context; `None` if there is none.
pub(super) fn with_plugin<T>(root: u32, of: impl FnOnce(&Plugin) -> T) -> Option<T> {
    PLUGINS.with_borrow(|plugins| {
        let (_, plugin) = plugins.iter().find(|(known, _)| *known == root)?;
        Some(of(plugin))
    })
}

/// Forgets the plugin of a root context.
pub(super) fn forget(root: u32) {
    PLUGINS.with_borrow_mut(|plugins| plugins.retain(|(known, _)| *known != root));
}
