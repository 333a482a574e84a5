//! `meridian certificates`: what the parts of the compose project show each other.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueHint};

use crate::lab::compose::write_certificates;

/// Make the certificates of the compose project, a folder for each part
///
/// Two CAs, one for the mesh with SPIFFE identities and one for the public, whose private keys are kept
/// nowhere. The files have the names that Istio gives them. Does nothing where they are there already.
#[derive(Debug, Clone, Args)]
pub struct CertificatesArgs {
    /// Write the folders into this one
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: PathBuf,
}

/// Writes the certificates, unless they are there.
///
/// # Errors
/// If a file cannot be written.
pub fn run(args: &CertificatesArgs) -> anyhow::Result<ExitCode> {
    if !write_certificates(&args.out)? {
        eprintln!("{}: the certificates are there", args.out.display());
    }
    Ok(ExitCode::SUCCESS)
}
