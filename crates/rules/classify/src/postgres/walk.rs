//! The walk over a parse tree: expressions, names in scope, and what is found on the way.
//!
//! *Invariant*: every node of the tree is visited, or the class is unknown.

use std::borrow::Cow;

use pg_raw_parse::list::NodeList;
use pg_raw_parse::raw::{A_Expr_Kind, ConstrType};
use pg_raw_parse::{ConstValue, Node, nodes};
use vocabulary::{Class, Effect, FunctionUse, ObjectUse, SettingChange, Usage};

use super::children::push_children;
use super::functions::{self, Known};
use super::names::{Path, joined};
use super::{Prepared, UNKNOWN_VALUE, limits, settings};

/// How deep statements may stand in statements that are not run now (function bodies in function bodies).
const MAX_ASIDES: usize = 16;

/// What a statement is judged by besides its text.
pub(super) struct Environment<'e> {
    pub path: &'e Path,
    pub server_major: Option<u16>,
    pub prepared: Prepared<'e>,
}

/// What was found of a statement so far.
pub(super) struct Found {
    pub class: Class,
    /// Words of statements within the statement.
    pub inner_verbs: Vec<String>,
    pub objects: Vec<ObjectUse>,
    pub functions: Vec<FunctionUse>,
    pub has_where: Option<bool>,
    /// Of an EXECUTE; else the statement itself says.
    pub has_limit: Option<bool>,
    pub settings: Vec<SettingChange>,
    pub outlives_rollback: bool,
    /// Whether the facts would be others with other constants in their places.
    pub depends_on_constants: bool,
    /// Whether the facts would be others in a session that has prepared others.
    pub depends_on_prepared: bool,
}

#[derive(Clone, Copy)]
struct Task<'a> {
    node: Node<'a>,
    scope: ScopeId,
}

/// A place in [`Walk::scopes`], one more than the index; 0 is the outermost scope.
type ScopeId = usize;

/// One name of a WITH list, visible from here inwards.
struct Scope<'a> {
    outer: ScopeId,
    name: &'a str,
}

pub(super) struct Walk<'a, 'e> {
    pub env: &'e Environment<'e>,
    pub found: Found,
    tasks: Vec<Task<'a>>,
    scratch: Vec<Node<'a>>,
    scopes: Vec<Scope<'a>>,
    steps: usize,
    asides: usize,
    /// Whether column defaults are only stored by the statement at hand.
    stored_defaults: bool,
}

/// What a part of a statement that isn't run now would do.
pub(super) struct Aside {
    pub class: Class,
    pub inner_verbs: Vec<String>,
    pub outlives_rollback: bool,
    pub has_where: Option<bool>,
    pub settings: Vec<SettingChange>,
    /// Objects found from this index on are its own.
    pub first_object: usize,
    /// Functions found from this index on are its own.
    pub first_function: usize,
}

impl<'a, 'e> Walk<'a, 'e> {
    pub(super) fn new(env: &'e Environment<'e>) -> Self {
        Self {
            env,
            found: Found {
                class: Class::Session,
                inner_verbs: Vec::new(),
                objects: Vec::new(),
                functions: Vec::new(),
                has_where: None,
                has_limit: None,
                settings: Vec::new(),
                outlives_rollback: false,
                depends_on_constants: false,
                depends_on_prepared: false,
            },
            tasks: Vec::new(),
            scratch: Vec::new(),
            scopes: Vec::new(),
            steps: 0,
            asides: 0,
            stored_defaults: false,
        }
    }

    /// Judges one statement and returns its verb, if it is of a known kind. False: it took too many steps.
    pub(super) fn run(&mut self, statement: Node<'a>) -> (Option<Cow<'static, str>>, bool) {
        let verb = self.statement(statement, 0);
        if verb.is_none() {
            self.not_understood();
        }
        self.drain(0);
        (verb, self.steps <= limits::MAX_STEPS)
    }

    fn drain(&mut self, down_to: usize) {
        while self.tasks.len() > down_to && self.steps <= limits::MAX_STEPS {
            if let Some(task) = self.tasks.pop() {
                self.steps += 1;
                self.visit(task);
            }
        }
        self.tasks.truncate(down_to);
    }

    pub(super) fn raise(&mut self, class: Class) {
        self.found.class = self.found.class.max(class);
    }

    pub(super) fn not_understood(&mut self) {
        self.found.class = Class::Unknown;
        self.found.outlives_rollback = true;
    }

    pub(super) fn object(&mut self, name: String, usage: Usage) {
        self.found.objects.push(ObjectUse { name, usage });
    }

    /// Notes a relation, but not a name of a WITH list.
    pub(super) fn relation(&mut self, relation: &nodes::RangeVar, usage: Usage) {
        let name = relation.relname().unwrap_or_default();
        let objects = &mut self.found.objects;
        self.env.path.relations(relation.schemaname(), name, |name| objects.push(ObjectUse { name, usage }));
    }

    pub(super) fn push(&mut self, node: Node<'a>, scope: ScopeId) {
        if !matches!(node, Node::None) {
            self.tasks.push(Task { node, scope });
        }
    }

    /// Puts everything under a node on the stack, but for what its statement deals with itself: WITH and INTO
    /// clauses, and the relations in `except`.
    pub(super) fn push_rest(&mut self, node: Node<'a>, scope: ScopeId, except: &[Option<&nodes::RangeVar>]) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        if !push_children(node, &mut scratch) {
            self.not_understood();
        }
        for &child in &scratch {
            let dealt_with = match child {
                Node::WithClause(_) | Node::IntoClause(_) => true,
                // Most nodes by far.
                Node::String(_) | Node::Integer(_) | Node::A_Star(_) | Node::A_Const(_) => true,
                Node::RangeVar(relation) => {
                    except.iter().flatten().any(|excepted| std::ptr::eq(*excepted, relation))
                }
                _ => false,
            };
            if !dealt_with {
                self.tasks.push(Task { node: child, scope });
            }
        }
        self.scratch = scratch;
    }

    /// Opens the scope of a WITH clause and puts its queries on the stack.
    pub(super) fn with(&mut self, clause: Option<&'a nodes::WithClause>, outer: ScopeId) -> ScopeId {
        let Some(clause) = clause else { return outer };
        let mut scope = outer;
        let mut queries = Vec::with_capacity(clause.ctes().len());
        for query in clause.ctes() {
            // Without RECURSIVE a query sees only the names before its own.
            queries.push(Task { node: Node::CommonTableExpr(query), scope });
            self.scopes.push(Scope { outer: scope, name: query.ctename().unwrap_or_default() });
            scope = self.scopes.len();
        }
        if clause.recursive {
            queries.iter_mut().for_each(|query| query.scope = scope);
        }
        self.tasks.extend(queries);
        scope
    }

    /// Counts work that is not a node of the walk. False: it is too much.
    pub(super) const fn step(&mut self) -> bool {
        self.steps += 1;
        self.steps <= limits::MAX_STEPS
    }

    pub(super) fn in_scope(&mut self, name: &str, mut scope: ScopeId) -> bool {
        while let Some(place) = scope.checked_sub(1).and_then(|index| self.scopes.get(index)) {
            self.steps += 1;
            if place.name == name {
                return true;
            }
            scope = place.outer;
        }
        false
    }

    /// Walks what `push` puts on the stack, apart from what the statement does when it runs.
    pub(super) fn aside(&mut self, push: impl FnOnce(&mut Self)) -> Aside {
        let class = std::mem::replace(&mut self.found.class, Class::Session);
        let outlives_rollback = std::mem::replace(&mut self.found.outlives_rollback, false);
        let has_where = self.found.has_where.take();
        let settings = std::mem::take(&mut self.found.settings);
        let inner_verbs = std::mem::take(&mut self.found.inner_verbs);
        let (first_object, first_function) = (self.found.objects.len(), self.found.functions.len());
        let down_to = self.tasks.len();
        self.asides += 1;
        if self.asides > MAX_ASIDES {
            // Fail closed, and for good: the statement itself is not understood.
            self.steps = limits::MAX_STEPS + 1;
        } else {
            push(self);
            self.drain(down_to);
        }
        self.asides -= 1;
        Aside {
            class: std::mem::replace(&mut self.found.class, class),
            outlives_rollback: std::mem::replace(&mut self.found.outlives_rollback, outlives_rollback),
            has_where: std::mem::replace(&mut self.found.has_where, has_where),
            settings: std::mem::replace(&mut self.found.settings, settings),
            inner_verbs: std::mem::replace(&mut self.found.inner_verbs, inner_verbs),
            first_object,
            first_function,
        }
    }

    /// Walks a CREATE TABLE: what its columns default to is stored, while all else in it may run at once.
    pub(super) fn new_table(&mut self, create: &'a nodes::CreateStmt, scope: ScopeId) {
        let down_to = self.tasks.len();
        let before = std::mem::replace(&mut self.stored_defaults, true);
        self.push_rest(Node::CreateStmt(create), scope, &[create.relation()]);
        self.drain(down_to);
        self.stored_defaults = before;
    }

    fn visit(&mut self, Task { node, scope }: Task<'a>) {
        match node {
            Node::Constraint(constraint)
                if self.stored_defaults && constraint.contype == ConstrType::CONSTR_DEFAULT =>
            {
                let _stored = self.aside(|walk| walk.push_rest(node, scope, &[]));
            }
            Node::RangeVar(relation) => {
                let name = relation.relname().unwrap_or_default();
                if relation.schemaname().is_some() || !self.in_scope(name, scope) {
                    self.relation(relation, Usage::Read);
                }
            }
            Node::FuncCall(call) => {
                self.call(call);
                self.push_rest(node, scope, &[]);
            }
            // `t.f` and `(x).f` are also ways to write `f(t)` and `f(x)`.
            Node::ColumnRef(column) if column.fields().len() > 1 => self.attributes(column.fields()),
            Node::ColumnRef(_) => {}
            Node::A_Indirection(indirection) => {
                self.attributes(indirection.indirection());
                self.push_rest(node, scope, &[]);
            }
            Node::A_Expr(expression) => {
                // BETWEEN and its kin carry their own word in the operator's place.
                if expression.kind < A_Expr_Kind::AEXPR_BETWEEN {
                    self.operator(expression.name());
                }
                self.push_rest(node, scope, &[]);
            }
            Node::SubLink(link) => {
                self.operator(link.oper_name());
                self.push_rest(node, scope, &[]);
            }
            Node::SortBy(sort) => {
                self.operator(sort.use_op());
                self.push_rest(node, scope, &[]);
            }
            Node::RangeTableSample(sample) => {
                let builtin = matches!(
                    strings(sample.method()).as_slice(),
                    ["bernoulli" | "system"] | ["pg_catalog", "bernoulli" | "system"]
                );
                if !builtin {
                    self.function(joined(&strings(sample.method())), functions::UNKNOWN);
                }
                self.push_rest(node, scope, &[]);
            }
            _ => {
                if let Some((word, since)) = syntax_since(node)
                    && self.env.server_major.is_none_or(|major| major < since)
                {
                    // To an older server this is a call of somebody's function.
                    self.function(word.to_owned(), functions::UNKNOWN);
                }
                match self.statement(node, scope) {
                    Some(verb) => self.inner_verb(&verb),
                    None => self.push_rest(node, scope, &[]),
                }
            }
        }
    }

    /// Notes the word of a statement within the statement, unless it only asks.
    pub(super) fn inner_verb(&mut self, verb: &str) {
        if verb != "SELECT" && !self.found.inner_verbs.iter().any(|known| known == verb) {
            self.found.inner_verbs.push(verb.to_owned());
        }
    }

    fn function(&mut self, name: String, known: Known) {
        self.raise(known.class);
        self.found.outlives_rollback |= known.outlives_rollback;
        self.found.functions.push(FunctionUse { name, effect: known.effect });
    }

    /// The procedure of a CALL: whatever it is, it runs code.
    pub(super) fn procedure(&mut self, call: &'a nodes::FuncCall) {
        self.raise(Class::Execute);
        self.found.outlives_rollback = true;
        self.found
            .functions
            .push(FunctionUse { name: joined(&strings(call.funcname())), effect: Effect::Unknown });
    }

    /// A call of a function by name.
    fn call(&mut self, call: &'a nodes::FuncCall) {
        let name = strings(call.funcname());
        let builtin = match name.as_slice() {
            [name] if self.env.path.catalog_first() => Some(*name),
            ["pg_catalog", name] | [_, "pg_catalog", name] => Some(*name),
            _ => None,
        };
        let Some((name, known)) = builtin
            .and_then(|name| functions::function(name, self.env.server_major).map(|known| (name, known)))
        else {
            return self.function(joined(&name), functions::UNKNOWN);
        };
        match name {
            "set_config" => self.set_config(call),
            // With three arguments nothing is run.
            "ts_rewrite" if call.args().len() == 3 => {
                return self.function(
                    name.to_owned(),
                    Known { effect: Effect::Pure, class: Class::Session, outlives_rollback: false },
                );
            }
            _ => {}
        }
        self.function(name.to_owned(), known);
    }

    fn set_config(&mut self, call: &'a nodes::FuncCall) {
        self.found.depends_on_constants = true;
        let mut arguments = call.args().iter();
        let mut next = || arguments.next().unwrap_or(Node::None);
        let (name, value, local) = (constant(next()), constant(next()), constant(next()));
        let change = SettingChange {
            name: name.map_or_else(|| "*".to_owned(), |name| name.to_ascii_lowercase()),
            value: Some(value.unwrap_or_else(|| UNKNOWN_VALUE.to_owned())),
            local: local.is_some_and(|local| local == "true"),
        };
        self.setting(change);
    }

    /// Notes a setting that the statement changes.
    pub(super) fn setting(&mut self, change: SettingChange) {
        self.raise(settings::class_of(&change));
        self.found.settings.push(change);
    }

    /// Names written after a dot: a column of that name, or else a function. Only what is known to do more than
    /// compute is taken for a function.
    fn attributes(&mut self, fields: &'a NodeList) {
        for name in fields.iter().filter_map(Node::as_str) {
            if let Some(known) = functions::function(name, self.env.server_major)
                && known.effect != Effect::Pure
            {
                self.function(name.to_owned(), known);
            }
        }
    }

    fn operator(&mut self, name: &'a NodeList) {
        let name = strings(name);
        let builtin = match name.as_slice() {
            [] => true,
            [name] => self.env.path.catalog_first() && functions::operator(name, self.env.server_major),
            ["pg_catalog", name] => functions::operator(name, self.env.server_major),
            _ => false,
        };
        if !builtin {
            self.function(joined(&name), functions::UNKNOWN);
        }
    }
}

/// The word and the first major of what newer grammars read as syntax and older ones as a call.
const fn syntax_since(node: Node<'_>) -> Option<(&'static str, u16)> {
    Some(match node {
        Node::JsonObjectConstructor(_) => ("json_object", 16),
        Node::JsonArrayConstructor(_) | Node::JsonArrayQueryConstructor(_) => ("json_array", 16),
        Node::JsonObjectAgg(_) => ("json_objectagg", 16),
        Node::JsonArrayAgg(_) => ("json_arrayagg", 16),
        Node::JsonParseExpr(_) => ("json", 17),
        Node::JsonScalarExpr(_) => ("json_scalar", 17),
        Node::JsonSerializeExpr(_) => ("json_serialize", 17),
        Node::JsonFuncExpr(_) => ("json_query", 17),
        Node::JsonTable(_) => ("json_table", 17),
        Node::MergeSupportFunc(_) => ("merge_action", 17),
        _ => return None,
    })
}

/// The strings of a list, in order; anything else in it is skipped.
pub(super) fn strings(list: &NodeList) -> Vec<&str> {
    list.iter().filter_map(Node::as_str).collect()
}

/// A constant as text, through casts.
pub(super) fn constant(node: Node<'_>) -> Option<String> {
    let mut node = node;
    loop {
        match node {
            Node::TypeCast(cast) => node = cast.arg(),
            Node::A_Const(constant) => {
                return match constant.val()? {
                    ConstValue::Integer(value) => Some(value.to_string()),
                    ConstValue::Boolean(value) => Some(value.to_string()),
                    ConstValue::String(value) | ConstValue::Float(value) => Some(value.to_owned()),
                    _ => None,
                };
            }
            Node::Integer(value) => return Some(value.ival.to_string()),
            Node::Boolean(value) => return Some(value.boolval.to_string()),
            Node::Float(value) => return value.fval().map(str::to_owned),
            Node::String(value) => return value.sval().map(str::to_owned),
            _ => return None,
        }
    }
}
