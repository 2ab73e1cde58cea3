//! The picture of the layers in `src/README.md` is true.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// For each module, what it may import.
type Allowed = BTreeMap<String, BTreeSet<String>>;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Reads the `layers` block: a band's modules may import every band below; where arrows join
/// them, also what stands to the right.
fn allowed() -> Allowed {
    let text = fs::read_to_string(source().join("README.md")).unwrap();
    let block = text.split("```layers\n").nth(1).unwrap().split("```").next().unwrap();
    let mut below: BTreeSet<String> = BTreeSet::new();
    let mut allowed = Allowed::new();
    for band in block.lines().rev() {
        let ordered = band.contains('→');
        let modules: Vec<String> =
            band.split_whitespace().skip(1).filter(|m| *m != "→").map(str::to_owned).collect();
        let mut right = BTreeSet::new();
        for module in modules.iter().rev() {
            let mut may: BTreeSet<String> = below.clone();
            may.extend(right.iter().cloned());
            allowed.insert(module.clone(), may);
            if ordered {
                right.insert(module.clone());
            }
        }
        below.extend(modules);
    }
    allowed
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found
}

/// A file's place among the modules: `engine/redis/push.rs` is `engine`, `redis`, `push`.
fn place_of(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix(source()).unwrap().with_extension("");
    let parts = inside.components().map(|part| part.as_os_str().to_str().unwrap().to_owned());
    parts.filter(|part| part != "mod").collect()
}

/// The top-level module a file belongs to.
fn module_of(file: &Path) -> String {
    place_of(file).remove(0)
}

/// Its text without comments.
fn code_of(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// All paths that `a::{b, c::d}, …` begins with, and what comes after them.
fn paths(text: &str) -> (Vec<Vec<String>>, &str) {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        let mut found = Vec::new();
        loop {
            let (item, after) = paths(rest);
            found.extend(item);
            // An item may have another name: `a as b`.
            let end = after.trim_start_matches(|c| c != ',' && c != '}');
            let Some(more) = end.strip_prefix(',') else {
                return (found, end.strip_prefix('}').unwrap_or_default());
            };
            rest = more;
        }
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    if word.is_empty() {
        return (Vec::new(), rest);
    }
    let (mut tails, rest) = match rest.strip_prefix("::") {
        Some(rest) => paths(rest),
        None => (Vec::new(), rest),
    };
    if tails.is_empty() {
        tails.push(Vec::new());
    }
    for tail in &mut tails {
        tail.insert(0, word.to_owned());
    }
    (tails, rest)
}

/// What code names after `crate::` or, in `main`, `spillway::`.
fn from_the_top(code: &str) -> BTreeSet<Vec<String>> {
    let after = |root| code.split(root).skip(1).flat_map(|rest| paths(rest).0);
    ["crate::", "spillway::"].into_iter().flat_map(after).collect()
}

/// What a file names of this crate, from the top. Tests within it may name what they like.
fn imports(file: &Path) -> BTreeSet<Vec<String>> {
    let (code, place) = (code_of(file), place_of(file));
    let code = code.split("#[cfg(test)]\nmod ").next().unwrap();
    let mut found = from_the_top(code);
    // Each `super::` of several in a row is one module further up.
    let (mut up, mut pieces) = (0, code.split("super::"));
    pieces.next();
    for rest in pieces {
        up += 1;
        if rest.is_empty() {
            continue;
        }
        let above = &place[..place.len().saturating_sub(up)];
        found.extend(paths(rest).0.into_iter().map(|path| [above, &path].concat()));
        up = 0;
    }
    found
}

/// For each file, the others that it imports. A module and the files within it are one matter.
fn imported() -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let all = files(&source());
    let places: BTreeSet<Vec<String>> = all.iter().map(|file| place_of(file)).collect();
    let nearest = |path: &Vec<String>| {
        let ends = (1..=path.len()).rev().map(|end| path[..end].to_vec());
        ends.into_iter().find(|place| places.contains(place))
    };
    let of = |file: &PathBuf| {
        let place = place_of(file);
        let met = imports(file).iter().filter_map(nearest).collect::<BTreeSet<_>>();
        let apart = |a: &Vec<String>, b: &Vec<String>| !a.starts_with(b) && !b.starts_with(a);
        let met = met.into_iter().filter(|other| apart(&place, other)).collect();
        (place, met)
    };
    all.iter().map(of).collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut left = imported();
    assert!(left.values().map(BTreeSet::len).sum::<usize>() > left.len(), "few imports are found");
    // Whoever imports nobody that is left is part of no circle.
    loop {
        let known: BTreeSet<Vec<String>> = left.keys().cloned().collect();
        left.retain(|_, others| others.iter().any(|other| known.contains(other)));
        if left.len() == known.len() {
            break;
        }
    }
    let told: Vec<String> = left.keys().map(|place| place.join("::")).collect();
    assert!(told.is_empty(), "in circles, or above them: {}", told.join(", "));
}

#[test]
fn imports_point_down() {
    let allowed = allowed();
    let mut wrong = Vec::new();
    for file in files(&source()) {
        let module = module_of(&file);
        if module == "lib" {
            continue;
        }
        let may = allowed
            .get(&module)
            .unwrap_or_else(|| panic!("`{module}` is missing from the layers in src/README.md"));
        let named = from_the_top(&code_of(&file));
        let tops: BTreeSet<String> =
            named.into_iter().filter_map(|path| path.into_iter().next()).collect();
        for import in tops {
            if import != module && !may.contains(&import) {
                wrong.push(format!("{} imports {import}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_picture_names_every_module_and_no_other() {
    let drawn: BTreeSet<String> = allowed().into_keys().collect();
    let found: BTreeSet<String> =
        files(&source()).iter().map(|file| module_of(file)).filter(|m| m != "lib").collect();
    assert_eq!(drawn, found);
}

#[test]
fn every_file_says_what_it_is_and_fits_a_sitting() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for file in [files(&source()), files(&tests)].concat() {
        let text = fs::read_to_string(&file).unwrap();
        let opening = text.lines().next().unwrap_or_default();
        let said = opening.starts_with("//!") || opening.starts_with("#![doc = include_str!");
        assert!(said, "{} does not begin with //!", file.display());
        let lines = text.lines().count();
        assert!(lines <= 500, "{} has {lines} lines: split it along what it does", file.display());
    }
}

#[test]
fn the_domain_is_pure() {
    for file in files(&source().join("domain")) {
        let text = fs::read_to_string(&file).unwrap();
        for word in ["async fn", ".await", "std::fs", "std::net", "tokio::", "Utc::now"] {
            assert!(!text.contains(word), "{} has `{word}`", file.display());
        }
    }
}
