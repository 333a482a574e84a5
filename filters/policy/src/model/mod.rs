//! What a policy says: its sections, conditions, networks and identities, read from a document and
//! ready to be asked.

pub(crate) mod caller_conditions;
pub(crate) mod component;
mod date;
mod gateways;
pub(crate) mod mesh;
pub(crate) mod names;
mod policy;
mod precedence;
mod principal;
pub(crate) mod section;
pub(crate) mod tags;
pub(crate) mod vocabulary;

pub use caller_conditions::CallerConditions;
pub use date::Date;
pub use mesh::{Gateway, Mesh};
pub use names::{is_label_key, is_label_value, is_namespace};
pub use policy::{Deny, Metrics, Policy, Sni};
pub use precedence::{Precedence, Rank, Specificity};
pub use principal::{Principal, PrincipalPattern};
pub use section::{Rule, Section};
pub use tags::{TagWrite, Tags};
pub use vocabulary::{
    Action, ComponentType, Direction, DirectionEvidence, Mode, SniMode, Subject, Vantage,
};
