//! Scene and facts in Cedar's terms: entities, context, and how entities are called.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cedar_policy::{Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};
use vocabulary::{Effect, Facts, Name, PrincipalKind, TargetKind, Timestamp};

use crate::demands::{Action, Demand, Resource, schema_of};
use crate::scene::{Scene, TargetView};

/// The schema's entity types, parsed once.
#[derive(Clone, Debug)]
pub(crate) struct Types {
    group: EntityTypeName,
    person: EntityTypeName,
    agent: EntityTypeName,
    service: EntityTypeName,
    label: EntityTypeName,
    target: EntityTypeName,
    schema: EntityTypeName,
    object: EntityTypeName,
    function: EntityTypeName,
    action: EntityTypeName,
}

impl Types {
    /// `None` only if Cedar's names were no longer what they are.
    pub(crate) fn new() -> Option<Self> {
        let named = |name: &str| name.parse::<EntityTypeName>().ok();
        Some(Self {
            group: named("Group")?,
            person: named("Person")?,
            agent: named("Agent")?,
            service: named("Service")?,
            label: named("Label")?,
            target: named("Target")?,
            schema: named("Schema")?,
            object: named("Object")?,
            function: named("Function")?,
            action: named("Action")?,
        })
    }

    pub(crate) fn principal(&self, scene: &Scene<'_>) -> EntityUid {
        let kind = match scene.who.kind {
            PrincipalKind::Agent => &self.agent,
            PrincipalKind::Person => &self.person,
            PrincipalKind::Service => &self.service,
        };
        uid(kind, scene.who.name.as_str())
    }

    pub(crate) fn action(&self, action: Action) -> EntityUid {
        uid(&self.action, action.as_str())
    }

    pub(crate) fn resource(&self, target: &TargetView<'_>, resource: Resource<'_>) -> EntityUid {
        match resource {
            Resource::Target => uid(&self.target, target.name.as_str()),
            // A schema is asked about as one of its objects that has its own name: what a policy says of all of them, it
            // says of this one.
            Resource::Object(name) | Resource::Schema(name) => uid(&self.object, &qualified(target, name)),
            Resource::Function(name, _) => uid(&self.function, &qualified(target, name)),
        }
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// What an object, schema or function of a target is called in policies: `orders.public.carts`, `web1/etc/passwd`,
/// and `orders/archive.public.carts` in another database. A part that holds a dot is double-quoted, so that two
/// objects never have one name.
pub(crate) fn qualified(target: &TargetView<'_>, name: &str) -> String {
    let mut text = String::with_capacity(target.name.as_str().len() + 1 + name.len());
    push_part(&mut text, target.name.as_str());
    if target.other_database
        && let Some(database) = target.database
    {
        text.push('/');
        push_part(&mut text, database);
    }
    if !name.starts_with('/') {
        text.push('.');
    }
    text.push_str(name);
    text
}

fn push_part(text: &mut String, part: &str) {
    if part.contains(['.', '/', '"']) {
        text.push('"');
        text.push_str(&part.replace('"', "\"\""));
        text.push('"');
    } else {
        text.push_str(part);
    }
}

/// The target in the name of an object, schema or function.
pub(crate) fn target_of(qualified: &str) -> Option<String> {
    if let Some(rest) = qualified.strip_prefix('"') {
        return rest.split('"').next().map(str::to_owned);
    }
    let target = qualified.split(['.', '/']).next()?;
    (!target.is_empty()).then(|| target.to_owned())
}

/// The schema in the name of an object or function: what stands before its own name, if that has a schema.
pub(crate) fn schema_in(qualified: &str) -> Option<&str> {
    // The first dot stands behind the target and its database.
    let target = schema_of(qualified)?;
    let name = qualified.get(target.len() + 1..)?;
    let schema = schema_of(name)?;
    qualified.get(..target.len() + 1 + schema.len())
}

type Attributes = Vec<(String, RestrictedExpression)>;

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.map(text))
}

/// Everything that the demands of one command can be judged by.
pub(crate) fn entities(types: &Types, scene: &Scene<'_>, demands: &[Demand<'_>]) -> Result<Entities, String> {
    let mut all = Vec::with_capacity(demands.len() * 2 + 3);
    let groups = |names: &[Name]| -> Vec<EntityUid> {
        names.iter().map(|name| uid(&types.group, name.as_str())).collect()
    };
    let mut attributes = vec![("name".to_owned(), text(scene.who.name.as_str()))];
    if let Some(person) = &scene.who.on_behalf_of {
        let person_uid = uid(&types.person, person.as_str());
        if scene.who.kind != PrincipalKind::Person {
            attributes
                .push(("on_behalf_of".to_owned(), RestrictedExpression::new_entity_uid(person_uid.clone())));
            let named = vec![("name".to_owned(), text(person.as_str()))];
            all.push(entity(person_uid, named, groups(scene.person_groups), Vec::new())?);
        }
    }
    all.push(entity(types.principal(scene), attributes, groups(scene.groups), Vec::new())?);
    let target = &scene.target;
    let target_uid = types.resource(target, Resource::Target);
    let labels: Vec<EntityUid> =
        target.labels.iter().map(|(key, value)| uid(&types.label, &format!("{key}={value}"))).collect();
    let place = attributes_of(target, &target_uid, target.name.as_str());
    all.push(entity(target_uid.clone(), place, labels, tags(target.labels))?);
    let mut last = None;
    for demand in demands {
        let groups = demand.action.groups().iter().map(|group| uid(&types.action, group)).collect();
        let action = types.action(demand.action);
        if !all.iter().any(|known| known.uid() == action) {
            all.push(entity(action, Vec::new(), groups, Vec::new())?);
        }
        // Demands are sorted, but the same object can be read and written.
        if last == Some(demand.resource) {
            continue;
        }
        last = Some(demand.resource);
        let of_resource = types.resource(target, demand.resource);
        if all.iter().any(|known| known.uid() == of_resource) {
            continue;
        }
        let (name, effect) = match demand.resource {
            Resource::Target => continue,
            Resource::Object(name) | Resource::Schema(name) => (name, None),
            Resource::Function(name, effect) => (name, Some(effect)),
        };
        let mut attributes = attributes_of(target, &target_uid, name);
        let mut parents = vec![target_uid.clone()];
        if let Some(effect) = effect {
            attributes.push(("effect".to_owned(), text(effect_word(effect))));
        }
        // One entity may be asked about as an object and as a schema.
        let itself = || demands.iter().any(|other| other.resource == Resource::Schema(name)).then_some(name);
        if target.kind == TargetKind::Postgres
            && let Some(schema) = schema_of(name).or_else(itself)
        {
            parents.push(uid(&types.schema, &qualified(target, schema)));
        }
        all.push(entity(of_resource, attributes, parents, tags(target.labels))?);
    }
    Entities::from_entities(all, None).map_err(|error| error.to_string())
}

fn entity(
    uid: EntityUid,
    attributes: Attributes,
    parents: Vec<EntityUid>,
    tags: Attributes,
) -> Result<Entity, String> {
    Entity::new_with_tags(uid, attributes, parents, tags).map_err(|error| error.to_string())
}

fn attributes_of(target: &TargetView<'_>, uid: &EntityUid, name: &str) -> Attributes {
    vec![
        ("target".to_owned(), RestrictedExpression::new_entity_uid(uid.clone())),
        ("name".to_owned(), text(name)),
        ("kind".to_owned(), text(target.kind.as_str())),
        ("role".to_owned(), text(target.role)),
        ("database".to_owned(), text(target.database.unwrap_or_default())),
    ]
}

fn tags(labels: &BTreeMap<String, String>) -> Attributes {
    labels.iter().map(|(key, value)| (key.clone(), text(value))).collect()
}

/// The circumstances of a command, under one of its verbs. `approved` are the groups that have approved it as often as is asked.
pub(crate) fn context(
    types: &Types,
    scene: &Scene<'_>,
    facts: &Facts,
    verb: &str,
    approved: &[&str],
) -> Result<Context, String> {
    let (hour, minute, weekday) = clock(scene.now);
    let mut effects: Vec<&str> =
        facts.functions.iter().map(|function| effect_word(function.effect)).collect();
    effects.sort_unstable();
    effects.dedup();
    let yes_or_no = RestrictedExpression::new_bool;
    let mut pairs = vec![
        ("class".to_owned(), text(facts.class.as_str())),
        ("verb".to_owned(), text(verb)),
        ("has_where".to_owned(), yes_or_no(facts.has_where.unwrap_or(true))),
        ("has_limit".to_owned(), yes_or_no(facts.has_limit.unwrap_or(true))),
        ("functions".to_owned(), texts(facts.functions.iter().map(|function| function.name.as_str()))),
        ("effects".to_owned(), texts(effects.into_iter())),
        ("settings".to_owned(), texts(facts.settings.iter().map(|setting| setting.name.as_str()))),
        ("lasting".to_owned(), yes_or_no(facts.outlives_rollback)),
        ("in_transaction".to_owned(), yes_or_no(scene.in_transaction)),
        ("client_addr".to_owned(), RestrictedExpression::new_ip(address(scene.client_addr).to_string())),
        ("hour".to_owned(), RestrictedExpression::new_long(hour)),
        ("minute".to_owned(), RestrictedExpression::new_long(minute)),
        ("weekday".to_owned(), RestrictedExpression::new_long(weekday)),
        ("approvals".to_owned(), texts(approved.iter().copied())),
    ];
    if let Some(person) = &scene.who.on_behalf_of {
        let person = uid(&types.person, person.as_str());
        pairs.push(("on_behalf_of".to_owned(), RestrictedExpression::new_entity_uid(person)));
    }
    Context::from_pairs(pairs).map_err(|error| error.to_string())
}

/// What calling a function can do, in the words of the schema.
pub(crate) const fn effect_word(effect: Effect) -> &'static str {
    match effect {
        Effect::Pure => "pure",
        Effect::Session => "session",
        Effect::Write => "write",
        Effect::File => "file",
        Effect::Network => "network",
        Effect::Administer => "administer",
        Effect::Code => "code",
        Effect::Unknown => "unknown",
    }
}

/// The client's address. A local socket is this machine; what is no address at all is in nobody's network.
fn address(client: &str) -> IpAddr {
    let parsed =
        client.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| client.parse::<IpAddr>());
    match parsed {
        Ok(address) => address.to_canonical(),
        Err(_) if client.is_empty() || client.starts_with("unix") => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Err(_) => IpAddr::V4(Ipv4Addr::BROADCAST),
    }
}

/// Hour, minute and weekday (1 is Monday) in UTC.
fn clock(now: Timestamp) -> (i64, i64, i64) {
    const DAY_MIN: u64 = 24 * 60;
    let minutes = now.unix_ms() / 60_000;
    let of_day = minutes % DAY_MIN;
    // 1 January 1970 was a Thursday.
    let weekday = (minutes / DAY_MIN + 3) % 7 + 1;
    let long = |value: u64| i64::try_from(value).unwrap_or_default();
    (long(of_day / 60), long(of_day % 60), long(weekday))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_utc() {
        let at = |text: &str| clock(text.parse().unwrap());
        assert_eq!(at("2026-11-23T09:07:59.999999Z"), (9, 7, 1));
        assert_eq!(at("2026-11-22T23:00:00Z"), (23, 0, 7));
        assert_eq!(at("1970-01-01T00:00:00Z"), (0, 0, 4));
    }

    #[test]
    fn addresses_are_found_or_nobodys() {
        for (client, expected) in [
            ("10.0.0.7:51234", "10.0.0.7"),
            ("[::ffff:10.0.0.7]:1", "10.0.0.7"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("192.168.0.1", "192.168.0.1"),
            ("unix:uid=0", "127.0.0.1"),
            ("", "127.0.0.1"),
            ("nonsense", "255.255.255.255"),
        ] {
            assert_eq!(address(client).to_string(), expected, "{client}");
        }
    }

    #[test]
    fn a_name_leads_back_to_its_target() {
        let (labels, allow) = Default::default();
        for (name, database, object, expected) in [
            ("orders", None, "public.carts", "orders.public.carts"),
            ("orders.eu", None, "public.carts", "\"orders.eu\".public.carts"),
            ("orders", Some("archive"), "public.carts", "orders/archive.public.carts"),
            ("orders", Some("a.b"), "public.carts", "orders/\"a.b\".public.carts"),
            ("orders", None, "\"a.b\".\"c.d\"", "orders.\"a.b\".\"c.d\""),
            ("orders", None, "public", "orders.public"),
            ("web1", None, "/etc/passwd", "web1/etc/passwd"),
        ] {
            let name: Name = name.parse().unwrap();
            let target = TargetView {
                name: &name,
                kind: TargetKind::Postgres,
                role: "",
                database,
                other_database: database.is_some(),
                labels: &labels,
                allow: &allow,
            };
            let called = qualified(&target, object);
            assert_eq!(called, expected);
            assert_eq!(target_of(&called).as_deref(), Some(name.as_str()));
            let schema = schema_of(object).map(|schema| qualified(&target, schema));
            assert_eq!(schema_in(&called).map(str::to_owned), schema);
        }
    }
}
