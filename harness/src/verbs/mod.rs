//! One entry for each verb of the command line. No verb uses another: what two of them need lies
//! below, in the modules beside this one.

pub mod bench;
pub mod build;
pub mod certificates;
pub mod check;
pub mod demo;
pub mod docs;
pub mod echo;
pub mod explain;
pub mod learn;
pub mod mesh;
pub mod pack;
pub mod render;
pub mod report;
pub mod schema;
pub mod test;
pub mod top;
pub mod up;
