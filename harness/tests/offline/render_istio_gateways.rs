//! Gateways that a rendering must tell apart, and the proxies that it must reach.

use crate::render_istio::files;

/// A policy with two filtered ingress gateways of these names and labels.
fn two_gateways(names: [&str; 2], labels: [&str; 2]) -> String {
    let gateway = |index: usize| {
        format!(
            "{{name: {}, principal: cluster.local/ns/edge/sa/in-{index}, filtered: true, labels: {}}}",
            names[index], labels[index]
        )
    };
    format!(
        "mesh: {{gateways: {{ingress: [{}, {}]}}}}",
        gateway(0),
        gateway(1)
    )
}

#[test]
fn gateways_that_cannot_be_told_apart_are_refused() {
    let names = ["public", "internal"];
    for (names, labels, options, said) in [
        (
            names,
            ["{part-of: mesh}", "{part-of: mesh}"],
            vec![],
            "select the same pods",
        ),
        (
            names,
            ["{part-of: mesh}", "{part-of: mesh, app: in}"],
            vec![],
            "select the same pods",
        ),
        (
            names,
            ["{app: a}", "{app: b}"],
            vec!["--select-label", "app=c"],
            "found by app=a",
        ),
        (
            ["public", "public-connections"],
            ["{app: a}", "{app: b}"],
            vec![],
            "another `name`",
        ),
    ] {
        let error = files(&two_gateways(names, labels), &options).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    let apart = two_gateways(names, ["{app: a}", "{app: b}"]);
    assert!(files(&apart, &["--select-label", "meridian=enabled"]).is_ok());
}

#[test]
fn what_goes_with_a_wasm_plugin_reaches_every_proxy_that_takes_one() {
    let options = [
        "--as",
        "wasmplugin",
        "--select-label",
        "a=b",
        "--namespace",
        "shop",
    ];
    let files = files(
        &two_gateways(["public", "internal"], ["{app: a}", "{app: b}"]),
        &options,
    );
    let files = files.unwrap();
    for (path, older) in [
        ("gateways/public/connections.yaml", "1.27.0"),
        ("gateways/public/look-alikes.yaml", "1.29.0"),
        ("sidecars/shop/look-alikes.yaml", "1.29.0"),
    ] {
        let text = &files[path];
        let versions: Vec<&str> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("proxyVersion: "))
            .collect();
        assert!(!versions.is_empty(), "{path}");
        for version in versions {
            let version = regex::Regex::new(version.trim_matches('\'')).unwrap();
            assert!(version.is_match(older), "{path}: {version}");
        }
    }
}
