//! A section of host rules: what one vantage point lets through.

use crate::document::fields::{MAX_RULE_NAME, MAX_RULES, RESERVED_NAMES};
use crate::document::reader::{Errors, Fields, Node};
use crate::model::mesh::read_hosts;
use crate::model::names::is_of_label;
use crate::{Action, CallerConditions, Date, Direction, Document, HostMap, Mode, Rank};

/// The rules of one vantage point, compiled.
#[derive(Debug, Clone)]
pub struct Section {
    /// What is decided when no rule matches.
    pub default: Action,
    /// Whether decisions are carried out.
    pub mode: Mode,
    /// The rules in the order of the document.
    pub rules: Vec<Rule>,
    /// Which rules name a host. Values are [`Rank`]s.
    pub(crate) hosts: HostMap,
}

/// One rule, without its hosts.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name, which is its label in metrics.
    pub name: Box<str>,
    /// What it decides.
    pub action: Action,
    /// The names of the gateways that it is limited to; empty for all. A filter has only the rules
    /// of its own gateway, and there it is always empty.
    pub gateways: Box<[Box<str>]>,
    /// The ports it is limited to; empty for all.
    pub ports: Vec<u16>,
    /// Who must be calling.
    pub from: Option<Box<CallerConditions>>,
    /// Hosts that it leaves out. Boxed like [`Rule::from`], because most rules have neither.
    pub not_hosts: Option<Box<HostMap>>,
    /// The directions it is limited to; empty for all.
    pub directions: Vec<Direction>,
    /// True if it is only counted, never carried out.
    pub dry_run: bool,
    /// The last day on which it takes part.
    pub expires: Option<Date>,
}

impl Section {
    /// The section when the policy does not have it.
    pub(crate) fn new(default: Action) -> Self {
        Self {
            default,
            mode: Mode::Enforce,
            rules: Vec::new(),
            hosts: HostMap::default(),
        }
    }

    pub(crate) fn read(errors: &mut Errors, node: Node<'_>, default: Action) -> Self {
        let mut section = Self::new(default);
        section.hosts = errors.host_map();
        let Some(fields) = node.fields(errors, crate::fields::SECTION) else {
            return section;
        };
        if let Some(action) = fields
            .get("default")
            .and_then(|node| read_action(errors, node))
        {
            section.default = action;
        }
        if let Some(node) = fields.get("mode")
            && let Some(mode) = node.word(errors)
        {
            section.mode = mode;
        }
        if let Some(node) = fields.get("rules") {
            // At once: a table that grows needs its old self beside it, and a module never gives
            // memory back.
            section.hosts.reserve(count_hosts(node.document));
            if let Document::List(rules) = node.document {
                section.rules.reserve_exact(rules.len().min(MAX_RULES));
            }
            let mut count = 0;
            let mut names = Names::default();
            node.each(errors, |errors, node| {
                count += 1;
                if count > MAX_RULES {
                    if count == MAX_RULES + 1 {
                        errors.add(
                            &node.path,
                            &format!("is rule {count} of this section"),
                            &format!(
                                "keep at most {MAX_RULES} rules; a rule holds any number of hosts"
                            ),
                        );
                    }
                    return;
                }
                if let Some(rule) = section.read_rule(errors, node) {
                    if names.is_taken(&section.rules, &rule.name) {
                        let place = crate::document::reader::Path::Field(&node.path, "name");
                        errors.add_quoted(
                            &place,
                            &rule.name,
                            "is the name of an earlier rule of this section",
                            "give each rule its own name",
                        );
                    }
                    section.rules.push(rule);
                }
            });
        }
        section
    }

    /// The rule of a value of `hosts`, and its index.
    pub(crate) fn rule(&self, value: u16) -> Option<(usize, &Rule)> {
        let index = Rank::from(value).index();
        self.rules.get(index).map(|rule| (index, rule))
    }

    /// The rule's own part; its hosts go into the section's map. `None` when anything is wrong
    /// with it, which an error then says.
    fn read_rule(&mut self, errors: &mut Errors, node: Node<'_>) -> Option<Rule> {
        let fields = node.fields(errors, crate::fields::RULE)?;
        let name = read_name(errors, fields);
        let action = fields
            .require(errors, "action", "write `action: allow` or `action: deny`")
            .and_then(|node| read_action(errors, node));
        let rank = Rank::new(action.unwrap_or(Action::Deny), self.rules.len());
        if !errors.has_image
            && let Some(node) = fields.require(
                errors,
                "hosts",
                "list the hosts, such as [shop.example.com, \"*.example.org\"]",
            )
        {
            errors.read_hosts(node, &mut self.hosts, rank.into());
            if is_empty(node) {
                errors.add(
                    &node.path,
                    "is empty",
                    "list at least one host, or remove the rule",
                );
            }
        }
        if errors.is_for_filter
            && let Some(node) = fields.condition(errors, "gateways")
        {
            errors.add(
                &node.path,
                "is not for a filter, which does not know its gateway",
                "give each gateway what `meridian render` writes for it",
            );
        }
        let mut ports = Vec::new();
        if let Some(node) = fields.condition(errors, "ports") {
            node.each(errors, |errors, node| {
                ports.extend(node.number(errors, 1, u16::MAX))
            });
        }
        let mut directions = Vec::new();
        if let Some(node) = fields.condition(errors, "directions") {
            node.each(errors, |errors, node| {
                directions.extend(node.word::<Direction>(errors));
            });
        }
        let from = fields
            .condition(errors, "from")
            .map(|node| Box::new(CallerConditions::read(errors, node)));
        let not_hosts = fields
            .condition(errors, "notHosts")
            .map(|node| Box::new(read_hosts(errors, node)));
        let dry_run = fields
            .get("dryRun")
            .map_or(Some(false), |node| node.boolean(errors));
        let expires = fields.condition(errors, "expires").and_then(|node| {
            let text = node.string(errors)?;
            let date = Date::parse(text);
            if date.is_none() {
                let hint = "write the last day of the rule, as in 2027-03-31";
                errors.add_quoted(&node.path, text, "is not a day", hint);
            }
            date
        });
        Some(Rule {
            name: name?,
            action: action?,
            gateways: Box::default(),
            ports,
            from,
            not_hosts,
            directions,
            dry_run: dry_run?,
            expires,
        })
    }
}

/// The names of a section's rules so far, hashed. A set of the standard library costs a module two
/// kilobytes.
struct Names {
    /// The last rule of each hash, counted from 1; 0 is none.
    last: Vec<u16>,
    /// The rule before each rule that has the same hash.
    before: Vec<u16>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            last: vec![0; 1 << 12],
            before: Vec::new(),
        }
    }
}

impl Names {
    /// True if a rule has the name; if not, the next rule will.
    fn is_taken(&mut self, rules: &[Rule], name: &str) -> bool {
        // FNV-1a: who writes a policy does not attack its reader.
        let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        let Some(last) = self.last.get_mut((hash % (1 << 12)) as usize) else {
            return false;
        };
        let mut number = *last;
        while let Some(index) = usize::from(number).checked_sub(1) {
            if rules.get(index).is_some_and(|rule| *rule.name == *name) {
                return true;
            }
            number = self.before.get(index).copied().unwrap_or(0);
        }
        // In step with `rules`, also when one is there twice.
        self.before.resize(rules.len(), 0);
        self.before.push(*last);
        *last = u16::try_from(rules.len() + 1).unwrap_or(0);
        false
    }
}

/// How many hosts the rules of a section list.
fn count_hosts(rules: &Document<'_>) -> usize {
    let mut count = 0;
    if let Document::List(rules) = rules {
        for rule in rules {
            let Document::Mapping(fields) = rule else {
                continue;
            };
            for (name, value) in fields {
                if let Document::Strings(hosts) = value
                    && name == "hosts"
                {
                    count += hosts.len();
                }
            }
        }
    }
    count
}

fn is_empty(node: Node<'_>) -> bool {
    matches!(node.document, Document::Strings(list) if list.is_empty())
}

fn read_action(errors: &mut Errors, node: Node<'_>) -> Option<Action> {
    node.word(errors)
}

fn read_name(errors: &mut Errors, fields: Fields<'_>) -> Option<Box<str>> {
    let hint = "write a name of a-z, 0-9 and -, at most 63";
    let node = fields.require(errors, "name", hint)?;
    let text = node.string(errors)?;
    let is_name = (1..=MAX_RULE_NAME).contains(&text.len()) && text.bytes().all(is_of_label);
    if !is_name {
        errors.add_quoted(&node.path, text, "is not a rule name", hint);
        return None;
    }
    if RESERVED_NAMES.contains(&text) {
        errors.add_quoted(
            &node.path,
            text,
            "is reserved: metrics use it for decisions without a rule",
            "choose another name",
        );
        return None;
    }
    Some(text.into())
}
