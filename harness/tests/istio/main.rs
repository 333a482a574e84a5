//! The filters on a real Istio: every form of attachment, with the traffic that a mesh has.
//!
//! A mesh takes root and programs that not every machine has: where they are missing the tests say so
//! and pass, but where `CI` is set.

mod attached;
mod forms;
mod life;
mod million;
mod table;
mod traces;
mod traffic;
mod verb;

use tokio::sync::{Mutex, MutexGuard};

/// One mesh at a time: it has nine Envoys and an API server.
static TURN: Mutex<()> = Mutex::const_new(());

/// Waits until no other test has a mesh; `None` where this machine cannot run one.
async fn turn() -> Option<MutexGuard<'static, ()>> {
    if let Some(missing) = meridian::lab::mesh::missing() {
        eprintln!("skipped: {missing}");
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        return None;
    }
    Some(TURN.lock().await)
}
