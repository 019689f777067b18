//! Queries, changes of data, and commands of the session. What defines and administers is in `utility`.

use std::borrow::Cow;

use pg_raw_parse::raw::{
    CmdType, FetchDirection, LimitOption, MergeMatchKind, TransactionStmtKind, VariableSetKind,
};
use pg_raw_parse::{Node, nodes};
use vocabulary::{Class, Effect, SettingChange, TransactionControl, Usage};

use super::children::push_children;
use super::walk::{Walk, constant};
use super::{CopyDirection, Freed, Name};

/// What a statement does to its transaction.
pub(super) fn transaction(statement: Node<'_>) -> Option<TransactionControl> {
    let Node::TransactionStmt(statement) = statement else { return None };
    match statement.kind {
        TransactionStmtKind::TRANS_STMT_BEGIN | TransactionStmtKind::TRANS_STMT_START => {
            Some(TransactionControl::Begin)
        }
        TransactionStmtKind::TRANS_STMT_COMMIT | TransactionStmtKind::TRANS_STMT_PREPARE => {
            Some(TransactionControl::Commit)
        }
        TransactionStmtKind::TRANS_STMT_ROLLBACK => Some(TransactionControl::Rollback),
        TransactionStmtKind::TRANS_STMT_SAVEPOINT
        | TransactionStmtKind::TRANS_STMT_RELEASE
        | TransactionStmtKind::TRANS_STMT_ROLLBACK_TO => Some(TransactionControl::Savepoint),
        // COMMIT PREPARED and ROLLBACK PREPARED end another transaction than the session's.
        _ => None,
    }
}

/// Whether a setting can be another behind it: what is LOCAL ends with its transaction, what is undone was never set.
pub(super) const fn undoes_settings(transaction: Option<TransactionControl>) -> bool {
    !matches!(transaction, None | Some(TransactionControl::Begin))
}

/// Which way a COPY goes over the connection.
pub(super) fn copy(statement: Node<'_>) -> Option<CopyDirection> {
    match statement {
        Node::CopyStmt(copy) if copy.filename().is_none() && !copy.is_program => {
            Some(if copy.is_from { CopyDirection::In } else { CopyDirection::Out })
        }
        _ => None,
    }
}

/// The name that a PREPARE gives.
pub(super) fn prepares<'a>(statement: Node<'a>) -> Option<&'a str> {
    match statement {
        Node::PrepareStmt(prepare) => prepare.name(),
        _ => None,
    }
}

/// Which prepared statements lose their names.
pub(super) fn frees(statement: Node<'_>) -> Option<Freed> {
    match statement {
        Node::DeallocateStmt(statement) if statement.isall => Some(Freed::All),
        Node::DeallocateStmt(statement) => statement.name().map(|name| Freed::One(name.to_owned())),
        Node::DiscardStmt(discard) => {
            (discard.target == pg_raw_parse::raw::DiscardMode::DISCARD_ALL).then_some(Freed::All)
        }
        _ => None,
    }
}

/// The name that a DECLARE gives.
pub(super) fn declares<'a>(statement: Node<'a>) -> Option<&'a str> {
    match statement {
        Node::DeclareCursorStmt(declare) => declare.portalname(),
        _ => None,
    }
}

/// Whether a statement that hands out rows says how many at most ([`vocabulary::Facts::has_limit`]).
pub(super) fn has_limit(statement: Node<'_>) -> Option<bool> {
    match statement {
        Node::SelectStmt(select) if select.into_clause().is_none() => {
            // A limit that is computed, or WITH TIES, may let everything through.
            let counted = select.limit_option == LimitOption::LIMIT_OPTION_COUNT;
            Some(counted && constant(select.limit_count()).is_some())
        }
        Node::DeclareCursorStmt(declare) => has_limit(declare.query()),
        Node::PrepareStmt(prepare) => has_limit(prepare.query()),
        Node::CopyStmt(copy) if !copy.is_from => Some(has_limit(copy.query()).unwrap_or(false)),
        Node::FetchStmt(fetch) if !fetch.ismove => Some(
            matches!(fetch.direction, FetchDirection::FETCH_ABSOLUTE | FetchDirection::FETCH_RELATIVE)
                || fetch.how_many != std::ffi::c_long::MAX,
        ),
        _ => None,
    }
}

/// Whether a statement is of a kind whose facts never depend on constants, but for what calls of functions in
/// it say.
pub(super) const fn is_plain(statement: Node<'_>) -> bool {
    matches!(
        statement,
        Node::SelectStmt(_)
            | Node::InsertStmt(_)
            | Node::UpdateStmt(_)
            | Node::DeleteStmt(_)
            | Node::MergeStmt(_)
    )
}

impl<'a> Walk<'a, '_> {
    /// If the node is a statement: notes what it does, puts what is in it on the stack, and returns its verb.
    pub(super) fn statement(&mut self, node: Node<'a>, scope: usize) -> Option<Cow<'static, str>> {
        let verb = match node {
            Node::SelectStmt(select) => self.select(select, scope),
            Node::InsertStmt(insert) => {
                self.changes(node, insert.relation(), insert.with_clause(), scope);
                "INSERT"
            }
            Node::UpdateStmt(update) => {
                self.has_where(update.where_clause());
                self.changes(node, update.relation(), update.with_clause(), scope);
                self.changes_settings(update.relation());
                "UPDATE"
            }
            Node::DeleteStmt(delete) => {
                self.has_where(delete.where_clause());
                self.changes(node, delete.relation(), delete.with_clause(), scope);
                "DELETE"
            }
            Node::MergeStmt(merge) => {
                self.merges(merge);
                self.changes(node, merge.relation(), merge.with_clause(), scope);
                "MERGE"
            }
            Node::CopyStmt(copy) => {
                self.copy(copy, scope);
                "COPY"
            }
            Node::CreateTableAsStmt(create) => self.create_table_as(create, scope),
            Node::ExplainStmt(explain) => {
                self.explain(explain, scope);
                "EXPLAIN"
            }
            Node::PrepareStmt(_) => {
                self.push_rest(node, scope, &[]);
                "PREPARE"
            }
            Node::ExecuteStmt(execute) => {
                self.execute(execute);
                self.push_rest(node, scope, &[]);
                "EXECUTE"
            }
            Node::DeclareCursorStmt(_) => {
                self.push_rest(node, scope, &[]);
                "DECLARE CURSOR"
            }
            Node::FetchStmt(fetch) => {
                // What the query does, it does as its rows are fetched.
                self.raise(Class::Read);
                self.by_name(fetch.portalname().map(Name::Cursor));
                if fetch.ismove { "MOVE" } else { "FETCH" }
            }
            Node::ClosePortalStmt(_) => "CLOSE CURSOR",
            Node::DeallocateStmt(statement) => {
                if statement.isall {
                    "DEALLOCATE ALL"
                } else {
                    "DEALLOCATE"
                }
            }
            Node::TransactionStmt(statement) => self.transaction_statement(statement),
            Node::VariableSetStmt(set) => {
                self.set(set);
                if matches!(set.kind, VariableSetKind::VAR_RESET | VariableSetKind::VAR_RESET_ALL) {
                    "RESET"
                } else {
                    "SET"
                }
            }
            Node::VariableShowStmt(_) => {
                self.raise(Class::Read);
                "SHOW"
            }
            Node::ConstraintsSetStmt(set) => {
                if !set.deferred {
                    // Runs at once what triggers have put off.
                    self.raise(Class::Write);
                }
                "SET CONSTRAINTS"
            }
            Node::DiscardStmt(discard) => self.discard(discard),
            Node::ListenStmt(_) => "LISTEN",
            Node::UnlistenStmt(_) => "UNLISTEN",
            Node::NotifyStmt(_) => {
                // Others act on it, and it counts only if the transaction lasts.
                self.raise(Class::Write);
                "NOTIFY"
            }
            Node::LockStmt(lock) => {
                // Like FOR UPDATE: what it holds up are the writes of others.
                self.raise(Class::Write);
                self.relations(lock.relations(), Usage::Write);
                "LOCK TABLE"
            }
            Node::TruncateStmt(truncate) => {
                self.raise(Class::Write);
                self.found.has_where = Some(false);
                self.relations(truncate.relations(), Usage::Write);
                "TRUNCATE TABLE"
            }
            Node::DoStmt(_) => {
                self.raise(Class::Execute);
                self.found.outlives_rollback = true;
                "DO"
            }
            Node::CallStmt(call) => {
                match call.funccall() {
                    Some(procedure) => {
                        self.procedure(procedure);
                        self.push_rest(Node::FuncCall(procedure), scope, &[]);
                    }
                    None => self.not_understood(),
                }
                "CALL"
            }
            _ => return self.utility(node, scope),
        };
        Some(Cow::Borrowed(verb))
    }

    fn select(&mut self, select: &'a nodes::SelectStmt, outer: usize) -> &'static str {
        self.raise(Class::Read);
        let scope = self.with(select.with_clause(), outer);
        if !select.locking_clause().is_empty() {
            // Row locks are written into the rows.
            self.raise(Class::Write);
            self.locked(select, scope);
        }
        self.push_rest(Node::SelectStmt(select), scope, &[]);
        let Some(into) = select.into_clause() else { return "SELECT" };
        self.selects_into(into);
        "SELECT INTO"
    }

    /// Notes the relations in which a query's FOR UPDATE or FOR SHARE locks rows: those of its FROM, or those of them
    /// that it names, through subqueries, but not through names of a WITH list.
    fn locked(&mut self, select: &'a nodes::SelectStmt, scope: usize) {
        let everything = select.locking_clause().iter().any(|clause| clause.locked_rels().is_empty());
        let locked = select.locking_clause().iter().flat_map(nodes::LockingClause::locked_rels);
        let names: Vec<&str> = locked
            .filter_map(|node| match node {
                Node::RangeVar(relation) => relation.relname(),
                _ => None,
            })
            .collect();
        let wanted = |alias: Option<&nodes::Alias>, name: Option<&str>| {
            alias.and_then(nodes::Alias::aliasname).or(name).is_some_and(|name| names.contains(&name))
        };
        // Each with whether all in it is locked.
        let mut tasks: Vec<(Node<'a>, bool)> =
            select.from_clause().iter().map(|node| (node, everything)).collect();
        while let Some((node, all)) = tasks.pop() {
            if !self.step() {
                break;
            }
            match node {
                Node::RangeVar(relation) if all || wanted(relation.alias(), relation.relname()) => {
                    let name = relation.relname().unwrap_or_default();
                    if relation.schemaname().is_some() || !self.in_scope(name, scope) {
                        self.relation(relation, Usage::Write);
                    }
                }
                Node::JoinExpr(join) => tasks.extend([(join.larg(), all), (join.rarg(), all)]),
                Node::RangeSubselect(query) if all || wanted(query.alias(), None) => {
                    if let Node::SelectStmt(select) = query.subquery() {
                        tasks.extend(select.from_clause().iter().map(|node| (node, true)));
                    }
                }
                _ => {}
            }
        }
    }

    fn selects_into(&mut self, into: &'a nodes::IntoClause) {
        self.raise(Class::Define);
        if let Some(relation) = into.rel() {
            self.relation(relation, Usage::Define);
        }
    }

    fn changes(
        &mut self,
        node: Node<'a>,
        relation: Option<&'a nodes::RangeVar>,
        with: Option<&'a nodes::WithClause>,
        outer: usize,
    ) {
        self.raise(Class::Write);
        let scope = self.with(with, outer);
        if let Some(relation) = relation {
            // Never a name of the WITH list: the server refuses to change one.
            self.relation(relation, Usage::Write);
        }
        self.push_rest(node, scope, &[relation]);
    }

    /// Notes what an UPDATE of `pg_settings` does: a rule of the catalog makes a `set_config` of each of its rows. Which
    /// settings these are, only the server knows. No other statement sets that rule off.
    fn changes_settings(&mut self, relation: Option<&nodes::RangeVar>) {
        let catalogs = relation.is_some_and(|relation| {
            relation.relname() == Some("pg_settings")
                && matches!(relation.schemaname(), None | Some("pg_catalog"))
        });
        if catalogs {
            let value = Some(super::UNKNOWN_VALUE.to_owned());
            self.setting(SettingChange { name: "*".to_owned(), value, local: false });
        }
    }

    /// Notes whether an UPDATE or DELETE says which rows it means: `WHERE true` says no more than no WHERE.
    fn has_where(&mut self, condition: Node<'a>) {
        let narrows = self.names_a_column(condition);
        self.found.has_where = Some(self.found.has_where.unwrap_or(true) && narrows);
    }

    /// Of a MERGE, each part that updates or deletes has to say which rows it means: by what joins them, where it is
    /// for those that match, or by a condition of its own.
    fn merges(&mut self, merge: &'a nodes::MergeStmt) {
        for part in merge.merge_when_clauses() {
            if !matches!(part.command_type, CmdType::CMD_UPDATE | CmdType::CMD_DELETE) {
                continue;
            }
            let joined = part.match_kind == MergeMatchKind::MERGE_WHEN_MATCHED
                && self.names_a_column(merge.join_condition());
            let narrows = joined || self.names_a_column(part.condition());
            self.found.has_where = Some(self.found.has_where.unwrap_or(true) && narrows);
        }
    }

    /// Whether a condition can tell one row from another, at least by naming a column or the row of a cursor.
    fn names_a_column(&mut self, condition: Node<'a>) -> bool {
        let mut tasks = vec![condition];
        while let Some(node) = tasks.pop() {
            if matches!(node, Node::ColumnRef(_) | Node::CurrentOfExpr(_)) {
                return true;
            }
            // What is not understood is unknown by the walk itself.
            if !self.step() || !push_children(node, &mut tasks) {
                return false;
            }
        }
        false
    }

    fn relations(&mut self, list: &'a pg_raw_parse::list::NodeList, usage: Usage) {
        for node in list {
            match node {
                Node::RangeVar(relation) => self.relation(relation, usage),
                _ => self.not_understood(),
            }
        }
    }

    fn copy(&mut self, copy: &'a nodes::CopyStmt, scope: usize) {
        self.raise(if copy.is_from { Class::Write } else { Class::Read });
        let usage = if copy.is_from { Usage::Write } else { Usage::Read };
        if let Some(relation) = copy.relation() {
            self.relation(relation, usage);
        }
        if copy.is_program {
            self.raise(Class::Execute);
            self.found.outlives_rollback = true;
        } else if copy.filename().is_some() {
            // As with functions: reading the server's files is administering, writing them can become running.
            self.raise(if copy.is_from { Class::Administer } else { Class::Execute });
            self.found.outlives_rollback = true;
        }
        self.push_rest(Node::CopyStmt(copy), scope, &[copy.relation()]);
    }

    fn create_table_as(&mut self, create: &'a nodes::CreateTableAsStmt, scope: usize) -> &'static str {
        let materialized = create.objtype == pg_raw_parse::raw::ObjectType::OBJECT_MATVIEW;
        self.raise(Class::Define);
        if let Some(into) = create.into() {
            self.selects_into(into);
        }
        self.push_rest(Node::CreateTableAsStmt(create), scope, &[]);
        if materialized { "CREATE MATERIALIZED VIEW" } else { "CREATE TABLE AS" }
    }

    fn explain(&mut self, explain: &'a nodes::ExplainStmt, scope: usize) {
        let mut runs = false;
        for option in explain.options() {
            if option.defname() == Some("analyze") {
                // The last one counts; what the server may take for true does.
                runs = !constant(option.arg()).is_some_and(|value| {
                    ["0", "false", "off"].iter().any(|off| value.eq_ignore_ascii_case(off))
                });
            }
        }
        let inner = self.aside(|walk| walk.push(explain.query(), scope));
        if runs {
            self.raise(inner.class);
            self.found.outlives_rollback |= inner.outlives_rollback;
            self.found.has_where = inner.has_where;
            self.found.settings.extend(inner.settings);
            inner.inner_verbs.iter().for_each(|verb| self.inner_verb(verb));
            return;
        }
        // Planning runs functions that are declared immutable or stable, and a declaration may lie.
        let planned = self.found.functions.get(inner.first_function..).unwrap_or_default();
        let lies = planned.iter().any(|function| function.effect == Effect::Unknown);
        if lies || inner.class == Class::Unknown {
            self.not_understood();
        }
        self.raise(Class::Read);
        for object in self.found.objects.get_mut(inner.first_object..).unwrap_or_default() {
            object.usage = Usage::Read;
        }
    }

    fn execute(&mut self, execute: &'a nodes::ExecuteStmt) {
        self.by_name(execute.name().map(Name::Statement));
    }

    /// Runs what has this name.
    fn by_name(&mut self, name: Option<Name<'a>>) {
        self.found.depends_on_prepared = true;
        match name.and_then(self.env.prepared) {
            Some(facts) => {
                self.raise(facts.class);
                if !matches!(facts.verb.as_str(), "PREPARE" | "DECLARE CURSOR") {
                    self.inner_verb(&facts.verb);
                }
                facts.inner_verbs.iter().for_each(|verb| self.inner_verb(verb));
                self.found.objects.extend(facts.objects.iter().cloned());
                self.found.functions.extend(facts.functions.iter().cloned());
                self.found.settings.extend(facts.settings.iter().cloned());
                self.found.has_where = facts.has_where;
                self.found.has_limit = facts.has_limit;
                self.found.outlives_rollback |= facts.outlives_rollback;
            }
            None => self.not_understood(),
        }
    }

    fn transaction_statement(&mut self, statement: &nodes::TransactionStmt) -> &'static str {
        match statement.kind {
            TransactionStmtKind::TRANS_STMT_BEGIN => "BEGIN",
            TransactionStmtKind::TRANS_STMT_START => "START TRANSACTION",
            TransactionStmtKind::TRANS_STMT_COMMIT => "COMMIT",
            TransactionStmtKind::TRANS_STMT_ROLLBACK | TransactionStmtKind::TRANS_STMT_ROLLBACK_TO => {
                "ROLLBACK"
            }
            TransactionStmtKind::TRANS_STMT_SAVEPOINT => "SAVEPOINT",
            TransactionStmtKind::TRANS_STMT_RELEASE => "RELEASE",
            TransactionStmtKind::TRANS_STMT_PREPARE => "PREPARE TRANSACTION",
            // These end a transaction that any session may have prepared.
            TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED => self.ends_another("COMMIT PREPARED"),
            TransactionStmtKind::TRANS_STMT_ROLLBACK_PREPARED => self.ends_another("ROLLBACK PREPARED"),
            _ => {
                self.not_understood();
                "UNKNOWN"
            }
        }
    }

    fn ends_another(&mut self, verb: &'static str) -> &'static str {
        self.raise(Class::Write);
        self.found.outlives_rollback = true;
        verb
    }

    fn discard(&mut self, discard: &nodes::DiscardStmt) -> &'static str {
        use pg_raw_parse::raw::DiscardMode;
        match discard.target {
            DiscardMode::DISCARD_ALL => {
                self.setting(SettingChange { name: "*".to_owned(), value: None, local: false });
                "DISCARD ALL"
            }
            DiscardMode::DISCARD_PLANS => "DISCARD PLANS",
            DiscardMode::DISCARD_SEQUENCES => "DISCARD SEQUENCES",
            _ => "DISCARD TEMP",
        }
    }

    fn set(&mut self, set: &'a nodes::VariableSetStmt) {
        let name = set.name().unwrap_or_default();
        let (value, local) = match set.kind {
            VariableSetKind::VAR_SET_VALUE => (Some(list_value(name, set.args())), set.is_local),
            VariableSetKind::VAR_SET_DEFAULT | VariableSetKind::VAR_RESET => (None, set.is_local),
            VariableSetKind::VAR_RESET_ALL => {
                return self.setting(SettingChange { name: "*".to_owned(), value: None, local: false });
            }
            VariableSetKind::VAR_SET_MULTI => return self.set_transaction(name, set.args()),
            // FROM CURRENT belongs to functions only.
            _ => return self.not_understood(),
        };
        self.setting(SettingChange { name: name.to_ascii_lowercase(), value, local });
    }

    /// SET TRANSACTION …, SET SESSION CHARACTERISTICS AS TRANSACTION …
    fn set_transaction(&mut self, name: &str, options: &'a pg_raw_parse::list::NodeList) {
        let (prefix, local) =
            if name == "SESSION CHARACTERISTICS" { ("default_", false) } else { ("", true) };
        for option in options {
            match option {
                Node::DefElem(option) => self.setting(SettingChange {
                    name: format!("{prefix}{}", option.defname().unwrap_or_default()),
                    value: constant(option.arg()),
                    local,
                }),
                // SET TRANSACTION SNAPSHOT 'id'
                other => self.setting(SettingChange {
                    name: "transaction_snapshot".to_owned(),
                    value: constant(other),
                    local,
                }),
            }
        }
    }
}

/// A setting's value as the server joins it: lists of names are quoted where they need to be.
fn list_value(name: &str, values: &pg_raw_parse::list::NodeList) -> String {
    let names = values.len() > 1 || name.eq_ignore_ascii_case("search_path");
    let mut joined = String::new();
    for value in values {
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        let value = constant(value).unwrap_or_default();
        let plain =
            value.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
                && value.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if names && !plain {
            joined.push('"');
            joined.push_str(&value.replace('"', "\"\""));
            joined.push('"');
        } else {
            joined.push_str(&value);
        }
    }
    joined
}
