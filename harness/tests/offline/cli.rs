//! What all verbs have in common: exit codes, help, and what misuse is told.

use clap::CommandFactory;
use meridian::cli::Cli;

use crate::command::{meridian, policy};

#[test]
fn misuse_exits_2_and_says_what_to_write() {
    for (arguments, words) in [
        (
            &["check", "--policy", "/no/such/file"][..],
            "cannot read the policy /no/such/file",
        ),
        (
            &[
                "explain",
                "--policy",
                "x",
                "--at",
                "nowhere",
                "--authority",
                "a",
            ],
            "write one of ingress, egress, inbound, outbound",
        ),
        (
            &[
                "explain",
                "--policy",
                "x",
                "--at",
                "ingress",
                "--authority",
                "a",
                "--source",
                "here",
            ],
            "write IP:PORT",
        ),
        (
            &[
                "explain",
                "--policy",
                "x",
                "--at",
                "ingress",
                "--authority",
                "a",
                "--principal",
                "me",
            ],
            "write TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT",
        ),
        (
            &["explain", "--policy", "x", "--at", "ingress"],
            "--authority <HOST>",
        ),
        (
            &[
                "explain",
                "--policy",
                "x",
                "--at",
                "outbound",
                "--connection",
            ],
            "--connection is of gateways, a sidecar has no network filter",
        ),
        (
            &[
                "explain",
                "--policy",
                "x",
                "--at",
                "egress",
                "--connection",
                "--tls",
            ],
            "--tls is of requests",
        ),
        (&["frobnicate"], "unrecognized subcommand"),
    ] {
        let output = meridian(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(words), "{stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn every_verb_helps() {
    for verb in Cli::command().get_subcommands() {
        let verb = verb.get_name();
        let output = meridian(&[verb, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        assert!(
            String::from_utf8(output.stdout)
                .unwrap()
                .contains("Usage: meridian"),
            "{verb}"
        );
    }
}

#[test]
fn a_wrong_policy_stops_up_before_anything_starts() {
    let bad = policy(b"hosts: {ingress: {rules: [{name: a}]}}");
    let output = meridian(&["up", "--policy", bad.path().to_str().unwrap()]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("hosts.ingress.rules[0].hosts: is missing"),
        "{stderr}"
    );
    assert!(
        stderr.contains("hosts.ingress.rules[0].action: is missing"),
        "{stderr}"
    );
}
