//! Loading a policy, or refusing it with every error's place.

use std::cell::Cell;
use std::rc::Rc;

use meridian_metrics::PLUGIN_ABSTAINS;
use meridian_policy::{ConfigError, Date, Policy, Subject, Vantage};

use crate::attachment::Attachment;
use crate::filter::Filter;
use crate::filter_state;
use crate::host::{PluginHost, Refused, StreamHost};

/// How often the day is read: a rule ends at most so long after its last day. A tick costs a host call
/// a worker, and a clock that is set (by NTP, or by hand) is noticed, which no timer to midnight would do.
const TICK_MILLISECONDS: u32 = 60_000;

/// The filters of a plugin, one for each vantage point that it serves.
pub struct Filters {
    /// Empty in a plugin that abstains.
    filters: Vec<Filter>,
    /// True once it was said that the plugin is attached as what its root id does not say.
    has_told_misuse: Cell<bool>,
}

thread_local! {
    /// True once this VM's log has it that the module abstains.
    static HAS_TOLD_ABSTENTION: Cell<bool> = const { Cell::new(false) };
}

/// The day, for rules that expire; read on a tick, never in a request.
#[derive(Clone, Default)]
pub struct Clock(Rc<Cell<Option<Date>>>);

impl Clock {
    /// Reads the host's clock. Without it a rule that expires neither allows nor stops denying.
    pub fn read<H: PluginHost>(&self, host: H) {
        let now = host.unix_seconds();
        if let Err(Refused(status)) = now {
            log::error!("the time is not known: the host answered {status}");
        }
        self.0.set(now.ok().map(Date::from_unix_seconds));
    }
}

impl Filters {
    /// Loads the policy that the host has for this plugin, at the vantage points of its module. The
    /// plugin's root id can name one of them, `ingress.tcp` and `egress.tcp` for connections. Where
    /// the module does not belong, the plugin abstains, whatever its policy is.
    ///
    /// # Errors
    /// Every error of the policy with its place, or what the host refused; nothing is in force then.
    pub fn load<H: PluginHost>(
        host: H,
        vantages: &[Vantage],
        clock: &Clock,
    ) -> Result<Self, Vec<String>> {
        let attachment = Attachment::of(host, vantages).map_err(|error| vec![error])?;
        let Attachment { vantages, subject } = attachment;
        if attachment.is_misplaced(host) {
            return refused(Self::abstaining(host, attachment), "a metric was not set");
        }
        let policy = read_policy(host)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let policy = Rc::new(policy);
        if policy.has_expiring_rules() {
            clock.read(host);
            let ticking = host.tick_every(TICK_MILLISECONDS);
            refused(ticking, "the clock does not tick")?;
        }
        let namespace = host.text("xds\0node\0metadata\0NAMESPACE");
        if policy.metrics.any() && subject == Subject::Request && !host.tells_ends() {
            return Err(vec![
                "metrics: a lean module measures nothing; take the one without `_lean`".to_owned(),
            ]);
        }
        if policy.tags.filter_state {
            let declared = host.declare_filter_state(filter_state::NAME, filter_state::TYPE_URL);
            refused(declared, "the filter state was not declared")?;
        }
        let mut filters = Vec::new();
        for vantage in vantages {
            let filter = Filter::new(
                host,
                policy.clone(),
                *vantage,
                subject,
                namespace.clone(),
                clock.0.clone(),
            );
            filters.push(refused(filter, "a metric was not defined")?);
        }
        let revision = policy.revision.unwrap_or_default();
        // Last: a policy that is refused is not in force.
        for filter in &filters {
            refused(filter.tell_policy(host, revision), "a metric was not set")?;
        }
        Ok(Self {
            filters,
            has_told_misuse: Cell::new(false),
        })
    }

    /// A plugin where its module does not belong: a sidecar's at a gateway, say, where every plugin of
    /// the root namespace lands. The gateway's own filter decides there, and a second one would tag
    /// over it.
    #[cold]
    fn abstaining<H: PluginHost>(host: H, attachment: Attachment<'_>) -> Result<Self, Refused> {
        for vantage in attachment.vantages {
            let name = PLUGIN_ABSTAINS.stat_name(&[vantage.as_str()]);
            host.set(host.define(PLUGIN_ABSTAINS.kind, &name)?, 1)?;
        }
        if !HAS_TOLD_ABSTENTION.replace(true) {
            let (module, node) = match attachment.is_of_gateway() {
                true => ("a gateway's", "a sidecar"),
                false => ("a sidecar's", "a gateway"),
            };
            log::warn!("the plugin abstains: this is {module} module, and the node is {node}");
        }
        Ok(Self {
            filters: Vec::new(),
            has_told_misuse: Cell::new(false),
        })
    }

    /// True in a plugin that lets everything pass, because the proxy is not of the kind that its
    /// module is for.
    pub fn abstain(&self) -> bool {
        self.filters.is_empty()
    }

    /// Says once what to write, if the plugin is attached as the other kind of filter than its root id
    /// says. No host tells that before the first request or connection.
    #[cold]
    pub fn tell_misuse(&self, is_of: Subject) {
        let Some(filter) = self.filters.first() else {
            return;
        };
        if filter.subject() == is_of || self.has_told_misuse.replace(true) {
            return;
        }
        let vantage = filter.vantage();
        match is_of {
            Subject::Request => log::error!(
                "the root id {vantage}.tcp is that of a network filter, and this is an HTTP filter: \
                 every request is refused; write {vantage}"
            ),
            Subject::Connection if vantage.is_gateway() => log::error!(
                "the root id {vantage} is that of an HTTP filter, and this is a network filter: \
                 every connection is closed; write {vantage}.tcp"
            ),
            Subject::Connection => log::error!(
                "a module for sidecars is an HTTP filter, and this is a network filter: \
                 every connection is closed; remove it"
            ),
        }
    }

    /// True if anything is measured when a request has ended.
    pub fn measure_ends(&self) -> bool {
        // They share the policy.
        self.filters.first().is_some_and(Filter::measures_ends)
    }

    /// The filter for the request or connection of this host; `None` at a sidecar's listener that is
    /// neither inbound nor outbound.
    pub fn current<H: StreamHost>(&self, host: H) -> Option<&Filter> {
        match self.filters.as_slice() {
            [filter] => Some(filter),
            [] => None,
            filters => {
                let vantage = listener_vantage(host)?;
                filters.iter().find(|filter| filter.vantage() == vantage)
            }
        }
    }
}

/// The policy that the host has, or the one in the module.
fn read_policy<H: PluginHost>(host: H) -> Result<Policy, Vec<ConfigError>> {
    let configuration = host.configuration();
    match host.policy_image() {
        None => Policy::from_json(configuration),
        Some(image) if configuration.trim_ascii().is_empty() => Policy::from_image(image),
        Some(_) => Err(vec![ConfigError {
            path: String::new(),
            message: "is in this module already".to_owned(),
            hint: "leave the plugin's configuration empty, or take the module without a policy"
                .to_owned(),
        }]),
    }
}

/// The vantage point of a sidecar's listener, from envoy.config.core.v3.TrafficDirection.
fn listener_vantage<H: StreamHost>(host: H) -> Option<Vantage> {
    match host.number("xds\0listener_direction")? {
        1 => Some(Vantage::Inbound),
        2 => Some(Vantage::Outbound),
        _ => None,
    }
}

/// The error of a policy that was refused because the host did not do its part.
fn refused<T>(answer: Result<T, Refused>, what: &str) -> Result<T, Vec<String>> {
    answer.map_err(|Refused(status)| vec![format!("{what}: the host answered {status}")])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, World};
    use std::cell::RefCell;

    const SIDECAR: [Vantage; 2] = [Vantage::Inbound, Vantage::Outbound];

    fn load(world: World, root_id: &str, vantages: &[Vantage]) -> (Result<Filters, String>, World) {
        let world = RefCell::new(world);
        world.borrow_mut().text("plugin_root_id", root_id);
        let loaded = Filters::load(Fake(&world), vantages, &Clock::default());
        let loaded = loaded.map_err(|errors| errors.join("\n"));
        (loaded, world.into_inner())
    }

    #[test]
    fn a_policy_with_errors_is_refused_with_every_place() {
        let policy = r#"{"hosts": {"ingress": {"default": "maybe", "rules": [{"name": "a"}]}}}"#;
        let (loaded, world) = load(World::request(policy, ""), "ingress", &[Vantage::Ingress]);
        let errors = loaded.err().unwrap();
        for place in ["hosts.ingress.default", "hosts.ingress.rules[0]"] {
            assert!(errors.contains(place), "{errors}");
        }
        assert!(world.stats.is_empty());
    }

    #[test]
    fn a_root_id_names_a_vantage_point_and_what_is_decided_on() {
        let (ingress, egress) = ([Vantage::Ingress], [Vantage::Egress]);
        for (vantages, root_id, expected) in [
            (&ingress[..], "ingress", Some((1, Subject::Request))),
            (&ingress, "", Some((1, Subject::Request))),
            (&ingress, "ingress.tcp", Some((1, Subject::Connection))),
            (&egress, "egress.tcp", Some((1, Subject::Connection))),
            (&SIDECAR, "", Some((2, Subject::Request))),
            (&SIDECAR, "inbound", Some((1, Subject::Request))),
            (&SIDECAR, "outbound.tcp", None),
            (&SIDECAR, ".tcp", None),
            (&ingress, "egress.tcp", None),
            // Of another module; any other name is a plugin's own.
            (&ingress, "egress", None),
            (&SIDECAR, "ingress", None),
            (&SIDECAR, "outbound-tags", Some((2, Subject::Request))),
        ] {
            let (loaded, _) = load(World::request("{}", ""), root_id, vantages);
            let got = loaded.as_ref().ok().map(|filters| {
                let filter = filters.filters.first().unwrap();
                (filters.filters.len(), filter.subject())
            });
            assert_eq!(got, expected, "{root_id:?} of {vantages:?}");
        }
    }

    #[test]
    fn a_plugin_abstains_where_the_node_is_not_of_its_module_s_kind() {
        let (ingress, egress) = ([Vantage::Ingress], [Vantage::Egress]);
        for (vantages, root_id, node, reporters) in [
            (
                &SIDECAR[..],
                "",
                "router~10.0.0.1~a.b~b",
                &["inbound", "outbound"][..],
            ),
            (&SIDECAR, "outbound", "router~10.0.0.1~a.b~b", &["outbound"]),
            (&SIDECAR, "inbound", "waypoint~10.0.0.1~a.b~b", &["inbound"]),
            (&ingress, "", "sidecar~10.0.0.1~a.b~b", &["ingress"]),
            (&egress, "egress.tcp", "sidecar~10.0.0.1~a.b~b", &["egress"]),
            // Where it belongs, and where the node tells nothing.
            (&SIDECAR, "", "sidecar~10.0.0.1~a.b~b", &[]),
            (&ingress, "", "router~10.0.0.1~a.b~b", &[]),
            (&ingress, "", "waypoint~10.0.0.1~a.b~b", &[]),
            (&ingress, "", "sidecar", &[]),
            (&SIDECAR, "", "router-1", &[]),
            (&SIDECAR, "", "Router~10.0.0.1~a.b~b", &[]),
            (&SIDECAR, "", "", &[]),
        ] {
            let policy = match reporters {
                [] => "{}",
                // It is not looked at.
                _ => "no policy",
            };
            let mut world = World::request(policy, "shop.example.com");
            world.text("xds\0node\0id", node);
            let (loaded, world) = load(world, root_id, vantages);
            let filters = loaded.unwrap();
            assert_eq!(
                filters.abstain(),
                !reporters.is_empty(),
                "{node} {root_id:?}"
            );
            let gauges: Vec<(String, u64)> = reporters
                .iter()
                .map(|reporter| (format!("reporter=.={reporter};.;"), 1))
                .collect();
            assert_eq!(world.counted("meridian_plugin_abstains"), gauges);
            if filters.abstain() {
                assert_eq!(world.stats.len(), reporters.len(), "{:?}", world.stats);
                let world = RefCell::new(world);
                assert!(filters.current(Fake(&world)).is_none() && !filters.measure_ends());
            }
        }
    }

    #[test]
    fn a_sidecar_s_listener_says_where_it_stands() {
        for (direction, expected) in [
            (Some(1), Some(Vantage::Inbound)),
            (Some(2), Some(Vantage::Outbound)),
            (Some(0), None),
            (None, None),
        ] {
            let world = RefCell::new(World::request("{}", "shop"));
            if let Some(direction) = direction {
                let mut world = world.borrow_mut();
                world.number("xds\0listener_direction", direction);
            }
            let filters = Filters::load(Fake(&world), &SIDECAR, &Clock::default()).unwrap();
            let current = filters.current(Fake(&world)).map(Filter::vantage);
            assert_eq!(current, expected, "{direction:?}");
        }
    }

    #[test]
    fn a_lean_module_refuses_a_policy_that_measures() {
        for (is_lean, root_id, is_loaded) in [
            (true, "ingress", false),
            (false, "ingress", true),
            // Nothing is measured of a connection's end.
            (true, "ingress.tcp", true),
        ] {
            let mut world = World::request(r#"{"metrics": {"responses": true}}"#, "");
            world.is_lean = is_lean;
            let (loaded, _) = load(world, root_id, &[Vantage::Ingress]);
            assert_eq!(loaded.is_ok(), is_loaded, "{is_lean}, {root_id}");
        }
    }

    #[test]
    fn the_clock_ticks_only_for_rules_that_expire() {
        let rule = r#"{"name": "a", "hosts": ["a.b"], "action": "allow", "expires": "2027-03-31"}"#;
        let expiring = format!(r#"{{"hosts": {{"ingress": {{"rules": [{rule}]}}}}}}"#);
        for (policy, ticks) in [("{}", None), (&expiring, Some(60_000))] {
            let (loaded, world) = load(World::request(policy, ""), "ingress", &[Vantage::Ingress]);
            assert!(loaded.is_ok());
            assert_eq!(world.ticks, ticks, "{policy}");
        }
    }

    #[test]
    fn a_policy_is_not_in_force_when_the_host_refuses() {
        let policy = r#"{"tags": {"filterState": true}, "hosts": {"ingress": {"rules": [
            {"name": "a", "hosts": ["a.b"], "action": "allow", "expires": "2027-03-31"}]}}}"#;
        for (refused, what) in [
            ("define", "a metric was not defined"),
            ("set", "a metric was not set"),
            ("declare_filter_state", "the filter state was not declared"),
            ("tick_every", "the clock does not tick"),
        ] {
            let mut world = World::request(policy, "");
            world.refused = Some(refused);
            let (loaded, _) = load(world, "ingress", &[Vantage::Ingress]);
            let expected = format!("{what}: the host answered {}", crate::fake::STATUS);
            assert_eq!(loaded.err(), Some(expected));
        }
        // Without a clock a rule that expires does not allow, and the policy is in force.
        let mut world = World::request(policy, "");
        world.refused = Some("unix_seconds");
        assert!(load(world, "ingress", &[Vantage::Ingress]).0.is_ok());
    }

    #[test]
    fn a_policy_in_the_module_is_the_only_one() {
        let rule = r#"{"name": "a", "hosts": ["a.b"], "action": "allow"}"#;
        let policy = format!(r#"{{"hosts": {{"ingress": {{"rules": [{rule}]}}}}}}"#);
        let policy = Policy::from_json(policy).unwrap();
        let document = r#"{"revision": "0000c0ffee42", "hosts": {"ingress": {"rules": [
            {"name": "a", "action": "allow"}]}}}"#;
        let image: &[u8] = policy.to_image(document).unwrap().leak();
        let part: &[u8] = &image[1..];
        for (image, configuration, refused) in [
            (image, "", None),
            (image, " \n", None),
            (image, "{}", Some("is in this module already")),
            (part, "", Some("is damaged, or of another version")),
        ] {
            let mut world = World::request(configuration, "");
            world.image = Some(image);
            let (loaded, world) = load(world, "ingress", &[Vantage::Ingress]);
            let revisions = world.counted("meridian_policy_revision");
            match (loaded, refused) {
                (Ok(_), None) => assert_eq!(revisions[0].1, 0xc0ffee42),
                (Err(error), Some(refused)) => {
                    assert!(error.contains(refused), "{error}");
                    assert_eq!(revisions, []);
                }
                (loaded, _) => panic!("{configuration:?}: {:?}", loaded.err()),
            }
        }
    }

    #[test]
    fn the_policy_in_force_is_told_by_gauges() {
        let policy = r#"{"hosts": {"ingress": {"rules": [
            {"name": "a", "hosts": ["a.b"], "action": "allow"}]}}}"#;
        let (_, world) = load(World::request(policy, ""), "ingress", &[Vantage::Ingress]);
        let reporter = "reporter=.=ingress;.;".to_owned();
        let revision = meridian_policy::revision(policy.as_bytes());
        assert_eq!(
            world.counted("meridian_policy_rules"),
            [(reporter.clone(), 1)]
        );
        assert_eq!(
            world.counted("meridian_policy_revision"),
            [(reporter.clone(), revision)]
        );
        // A part of a policy tells the revision of the whole one.
        let part = policy.replacen('{', r#"{"revision": "0000c0ffee42", "#, 1);
        let (_, world) = load(World::request(&part, ""), "ingress", &[Vantage::Ingress]);
        assert_eq!(
            world.counted("meridian_policy_revision"),
            [(reporter, 0xc0ffee42)]
        );
    }
}
