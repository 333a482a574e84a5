//! The plugins of this VM, by their root contexts.

use std::cell::{Cell, RefCell};

use meridian_policy::Vantage;

use super::root::Root;

thread_local! {
    /// The vantage points that the module serves.
    static VANTAGES: Cell<&'static [Vantage]> = const { Cell::new(&[]) };
    /// One, or for a while two when a policy was exchanged.
    static PLUGINS: RefCell<Vec<(u32, Root)>> = const { RefCell::new(Vec::new()) };
}

/// Says which vantage points the module serves; before the first plugin.
pub(super) fn serve(vantages: &'static [Vantage]) {
    VANTAGES.set(vantages);
}

/// Makes a plugin known by its root context.
pub(super) fn register(root: u32) {
    let plugin = Root::new(VANTAGES.get());
    PLUGINS.with_borrow_mut(|plugins| plugins.push((root, plugin)));
}

/// What `of` makes of the plugin of a root context; `None` if there is none.
pub(super) fn with_plugin<T>(root: u32, of: impl FnOnce(&mut Root) -> T) -> Option<T> {
    PLUGINS.with_borrow_mut(|plugins| {
        let (_, plugin) = plugins.iter_mut().find(|(known, _)| *known == root)?;
        Some(of(plugin))
    })
}

/// Forgets the plugin of a root context.
pub(super) fn forget(root: u32) {
    PLUGINS.with_borrow_mut(|plugins| plugins.retain(|(known, _)| *known != root));
}
