//! Programs whose arguments are a small language of their own: find, sed, awk, test, date and the like.
//!
//! Each function accepts what it can prove and leaves the rest to the table, which calls these programs code, or to
//! the caller, which calls it unknown.

use vocabulary::{Class, Effect};

use super::word::Word;

type Verdict = (Effect, Class);

const UNKNOWN: Verdict = (Effect::Unknown, Class::Unknown);
const LOOKS: Verdict = (Effect::File, Class::Read);

/// What a find does.
pub(super) struct Find<'w> {
    pub starts: Vec<&'w Word>,
    pub writes: bool,
    pub written: Vec<&'w Word>,
    pub commands: Vec<Vec<Word>>,
}

/// Predicates without and with one value.
const ASKS: &[&str] = &[
    "-print",
    "-print0",
    "-ls",
    "-prune",
    "-empty",
    "-true",
    "-false",
    "-quit",
    "-depth",
    "-mount",
    "-xdev",
    "-nouser",
    "-nogroup",
    "-readable",
    "-writable",
    "-executable",
    "-daystart",
    "-follow",
    "-noleaf",
    "-not",
    "!",
    "-o",
    "-a",
    "-or",
    "-and",
    "(",
    ")",
    ",",
    "-L",
    "-H",
    "-P",
    "-ignore_readdir_race",
];
const ASKS_VALUE: &[&str] = &[
    "-name",
    "-iname",
    "-path",
    "-ipath",
    "-wholename",
    "-lname",
    "-ilname",
    "-regex",
    "-iregex",
    "-regextype",
    "-type",
    "-xtype",
    "-size",
    "-mtime",
    "-atime",
    "-ctime",
    "-mmin",
    "-amin",
    "-cmin",
    "-newer",
    "-anewer",
    "-cnewer",
    "-newermt",
    "-newerct",
    "-user",
    "-group",
    "-uid",
    "-gid",
    "-perm",
    "-links",
    "-inum",
    "-maxdepth",
    "-mindepth",
    "-printf",
    "-samefile",
    "-used",
    "-fstype",
];

pub(super) fn find(arguments: &[Word]) -> Option<Find<'_>> {
    let mut found = Find { starts: Vec::new(), writes: false, written: Vec::new(), commands: Vec::new() };
    let mut words = arguments.iter();
    let mut starting = true;
    while let Some(word) = words.next() {
        let is_start = !word.can_be_option() && !matches!(word.text.as_str(), "(" | ")" | "!" | ",");
        if is_start {
            if !starting {
                return None;
            }
            found.starts.push(word);
            continue;
        }
        let predicate = word.known()?;
        starting &= matches!(predicate, "-L" | "-H" | "-P");
        if ASKS.contains(&predicate) {
            continue;
        }
        if ASKS_VALUE.contains(&predicate) {
            words.next().filter(|value| !value.several)?;
            continue;
        }
        match predicate {
            "-delete" => found.writes = true,
            "-fprint" | "-fprint0" | "-fls" => found.written.push(words.next().filter(|file| !file.several)?),
            "-exec" | "-execdir" | "-ok" | "-okdir" => {
                let mut command: Vec<Word> = Vec::new();
                loop {
                    let word = words.next()?;
                    let braces = command.last().is_some_and(|last| last.text == "{}");
                    match word.known() {
                        Some(";") => break,
                        Some("+") if braces => break,
                        _ => command.push(word.clone()),
                    }
                }
                for word in command.iter_mut().filter(|word| word.text.contains("{}")) {
                    // A path that begins as the place where the search began does, which is no option; but in the
                    // middle of code it is code.
                    let alone = word.text == "{}";
                    *word = if alone {
                        Word { text: "{}".to_owned(), ..Word::default() }
                    } else {
                        Word { text: word.text.clone(), ..Word::unknown() }
                    };
                }
                found.commands.push(command);
            }
            _ => return None,
        }
    }
    Some(found)
}

/// The files that a sed reads, if its script only prints, deletes and substitutes.
pub(super) fn sed(arguments: &[Word]) -> Option<Vec<&Word>> {
    let mut scripts = Vec::new();
    let mut files = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if !word.can_be_option() {
            files.push(word);
            continue;
        }
        match word.known()? {
            "-n" | "-E" | "-r" | "-s" | "-u" | "-z" | "-nE" | "-nr" | "-En" | "-rn" | "--quiet"
            | "--silent" | "--regexp-extended" => {}
            "-e" | "-ne" => scripts.push(words.next()?.known()?),
            _ => return None,
        }
    }
    if scripts.is_empty() {
        if files.is_empty() {
            return None;
        }
        scripts.push(files.remove(0).known()?);
    }
    scripts.into_iter().all(|script| is_harmless_sed(script).is_some()).then_some(files)
}

/// Addresses, and the commands p, d, q, = and s without the flags that write or run.
fn is_harmless_sed(script: &str) -> Option<()> {
    let mut rest = script.trim_matches([' ', ';']);
    while !rest.is_empty() {
        rest = address(rest)?;
        if let Some(second) = rest.strip_prefix(',') {
            rest = address(second.trim_start_matches(['+', '~', ' ']))?;
        }
        rest = rest.trim_start_matches([' ', '!']);
        let command = rest.chars().next()?;
        rest = rest.get(command.len_utf8()..)?;
        match command {
            'p' | 'd' | 'q' | '=' => {}
            's' => {
                let mark = rest.chars().next().filter(|mark| "/|#,:@!%".contains(*mark))?;
                rest = part(rest.get(1..)?, mark)?;
                rest = part(rest, mark)?;
                rest = rest.trim_start_matches(|flag: char| flag.is_ascii_digit() || "gpiI".contains(flag));
            }
            _ => return None,
        }
        rest = rest.trim_start_matches(' ');
        if !rest.is_empty() {
            rest = rest.strip_prefix(';')?.trim_start_matches([' ', ';']);
        }
    }
    Some(())
}

fn address(rest: &str) -> Option<&str> {
    if let Some(pattern) = rest.strip_prefix('/') {
        return Some(part(pattern, '/')?.trim_start_matches('I'));
    }
    if let Some(rest) = rest.strip_prefix('$') {
        return Some(rest);
    }
    Some(rest.trim_start_matches(|digit: char| digit.is_ascii_digit()))
}

/// What stands behind the next such mark. Whether a mark within brackets counts is read differently by different seds.
fn part(text: &str, mark: char) -> Option<&str> {
    let mut letters = text.char_indices();
    let mut bracket = false;
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\n' => return None,
            '\\' => {
                letters.next().filter(|(_, escaped)| *escaped != '\n')?;
            }
            '[' => bracket = true,
            ']' => bracket = false,
            _ if letter == mark => {
                return if bracket { None } else { text.get(at + letter.len_utf8()..) };
            }
            _ => {}
        }
    }
    None
}

/// The files that an awk reads, if its program can neither write nor run anything: no `>`, no `|`, no `system`, no
/// `getline`, and none of gawk's calls by name or includes.
pub(super) fn awk(arguments: &[Word]) -> Option<Vec<&Word>> {
    let mut rest = arguments;
    loop {
        let (word, behind) = rest.split_first()?;
        rest = behind;
        match word.known()? {
            "-F" | "-v" => {
                let (value, behind) = rest.split_first()?;
                if value.several {
                    return None;
                }
                rest = behind;
            }
            text if text.starts_with("-F") => {}
            script if is_harmless_awk(script) => break,
            _ => return None,
        }
    }
    // gawk opens connections for files of this name.
    let plain = |file: &Word| !file.can_be_option() && !file.text.starts_with("/inet");
    rest.iter().all(plain).then(|| rest.iter().collect())
}

fn is_harmless_awk(script: &str) -> bool {
    !script.starts_with('-')
        && !script.replace("||", "").contains(['>', '|', '@', '\\', '`'])
        && !["system", "getline", "printf >", "load", "ARGV", "PROCINFO"]
            .iter()
            .any(|word| script.contains(word))
}

/// Asks for files and compares strings. Numbers must be numbers: some shells compute what is compared as such.
pub(super) fn test(name: &str, arguments: &[Word]) -> Verdict {
    let mut words = arguments;
    if name == "[" {
        match words.split_last() {
            Some((last, rest)) if last.known() == Some("]") => words = rest,
            _ => return UNKNOWN,
        }
    }
    let numeric = |word: Option<&Word>| {
        word.is_some_and(|word| {
            let digits = word.text.strip_prefix('-').unwrap_or(&word.text);
            word.known().is_some() && digits.bytes().all(|byte| byte.is_ascii_digit())
                || matches!(word.text.as_str(), "$?" | "$#")
        })
    };
    for (at, word) in words.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| words.get(before));
        match word.known() {
            Some("-eq" | "-ne" | "-lt" | "-le" | "-gt" | "-ge")
                if !numeric(before) || !numeric(words.get(at + 1)) =>
            {
                return UNKNOWN;
            }
            Some("-v" | "-R" | "-t" | "-o") => return UNKNOWN,
            // What is split may bring operators along.
            None if word.several && word.text != "$?" && word.text != "$#" => return UNKNOWN,
            // A word that is not known may be an operator where one is looked for.
            None if words.len() > 3 => return UNKNOWN,
            None if words.len() == 2 && at == 0 => return UNKNOWN,
            None if words.len() == 3 && at == 1 => return UNKNOWN,
            _ => {}
        }
    }
    LOOKS
}

/// Formats that only put strings together: the others compute their arguments, which in some shells runs commands.
pub(super) fn printf(arguments: &[Word]) -> Verdict {
    let Some(format) = arguments.first().and_then(Word::known).filter(|format| !format.starts_with('-'))
    else {
        return UNKNOWN;
    };
    let mut letters = format.split('%').skip(1);
    while let Some(behind) = letters.next() {
        match behind.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-').chars().next() {
            // `%%` leaves an empty piece.
            None if letters.next().is_some() => {}
            Some('s' | 'b') => {}
            _ => return UNKNOWN,
        }
    }
    (Effect::Pure, Class::Read)
}

/// Says what time it is, unless it sets it.
pub(super) fn date(arguments: &[Word]) -> Verdict {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let Some(text) =
            word.known().or_else(|| (!word.several && !word.can_be_option()).then_some(&word.text))
        else {
            return UNKNOWN;
        };
        let asks = text.starts_with('+')
            || matches!(text, "-u" | "-R" | "--utc" | "-I" | "--iso-8601")
            || text.starts_with("-I")
            || text.starts_with("--iso-8601=")
            || text.starts_with("--date=")
            || text.starts_with("--reference=");
        if asks {
            continue;
        }
        if matches!(text, "-d" | "-r") && words.next().is_some_and(|value| !value.several) {
            continue;
        }
        return (Effect::Administer, Class::Administer);
    }
    (Effect::Pure, Class::Read)
}

/// `exit 1`. What is no number is computed by some shells.
pub(super) fn number(arguments: &[Word]) -> Verdict {
    let plain = |word: &Word| {
        word.text == "$?" || word.known().is_some_and(|text| text.bytes().all(|b| b.is_ascii_digit()))
    };
    if arguments.iter().all(plain) { (Effect::Session, Class::Session) } else { UNKNOWN }
}

/// `set -euo pipefail`.
pub(super) fn set(arguments: &[Word]) -> Verdict {
    let plain = |word: &Word| {
        word.known().is_some_and(|text| {
            let letters = text.strip_prefix(['-', '+']);
            letters.is_some_and(|letters| {
                !letters.is_empty() && letters.bytes().all(|letter| b"euxfo".contains(&letter))
            }) || matches!(text, "pipefail" | "errexit" | "nounset" | "xtrace" | "noglob")
        })
    };
    if !arguments.is_empty() && arguments.iter().all(plain) {
        (Effect::Session, Class::Session)
    } else {
        UNKNOWN
    }
}

/// Archives made, unpacked and listed with options that run nothing. A colon in the archive's name is another machine.
pub(super) fn tar(arguments: &[Word]) -> Option<Verdict> {
    let (first, rest) = arguments.split_first()?;
    let letters = first.known()?;
    let letters = letters.strip_prefix('-').unwrap_or(letters);
    if letters.starts_with('-') || !letters.bytes().all(|letter| b"ctxzjJvfpkhS".contains(&letter)) {
        return None;
    }
    let mut words = rest.iter();
    if letters.contains('f') {
        let archive = words.next()?.known()?;
        if archive.contains(':') || archive.starts_with('-') && archive != "-" {
            return None;
        }
    }
    while let Some(word) = words.next() {
        if word.can_be_option() {
            match word.known()? {
                "-C" => drop(words.next().filter(|directory| !directory.several)?),
                _ => return None,
            }
        }
    }
    let lists = letters.contains('t') && !letters.contains(['c', 'x']) && letters.contains('f');
    Some(if lists { LOOKS } else { (Effect::Write, Class::Write) })
}

/// What a client's rsync runs at the other end. Options that would come over the connection are not seen.
pub(super) fn rsync_server(arguments: &[Word]) -> Option<Verdict> {
    const LONG: &[&str] = &[
        "--sender",
        "--delete",
        "--delete-before",
        "--delete-during",
        "--delete-after",
        "--delete-excluded",
        "--numeric-ids",
        "--partial",
        "--inplace",
        "--existing",
        "--ignore-existing",
        "--size-only",
        "--ignore-times",
        "--remove-source-files",
        "--no-implied-dirs",
        "--safe-links",
        "--append",
        "--fake-super",
        "--no-r",
        "--omit-dir-times",
        "--checksum",
        "--one-file-system",
        "--force",
        "--ignore-errors",
        "--stats",
        "--list-only",
    ];
    const LONG_VALUE: &[&str] = &[
        "--log-format=",
        "--timeout=",
        "--bwlimit=",
        "--max-size=",
        "--min-size=",
        "--compress-level=",
        "--block-size=",
        "--max-delete=",
    ];
    if arguments.first().and_then(Word::known) != Some("--server") {
        return None;
    }
    for word in arguments.iter().skip(1) {
        if !word.can_be_option() {
            continue;
        }
        let Some(text) = word.known() else { return Some(UNKNOWN) };
        let long = LONG.contains(&text) || LONG_VALUE.iter().any(|option| text.starts_with(option));
        // What stands behind the `e` says what the client is able to.
        let letters =
            text.strip_prefix('-').and_then(|letters| letters.split('e').next()).unwrap_or_default();
        let short = !text.starts_with("--")
            && !letters.contains('s')
            && letters.bytes().all(|letter| letter.is_ascii_alphabetic());
        if !long && !short || letters.contains('M') && short {
            return Some(UNKNOWN);
        }
    }
    Some((Effect::File, Class::Transfer))
}
