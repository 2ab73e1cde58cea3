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

/// The top-level module a file belongs to.
fn module_of(file: &Path) -> String {
    let first = file.strip_prefix(source()).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// Top-level modules named after `crate::` (or, in `main`, `spillway::`), comments left out.
fn imports(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap();
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let word = |rest: &str| -> String {
        rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut found = BTreeSet::new();
    for root in ["crate::", "spillway::"] {
        for rest in code.split(root).skip(1) {
            let names: Vec<String> = match rest.strip_prefix('{') {
                Some(list) => top_level_names(list),
                None => vec![word(rest)],
            };
            found.extend(names);
        }
    }
    found
}

/// The first word of each item in `a::{b, c}, d}`.
fn top_level_names(list: &str) -> Vec<String> {
    let (mut depth, mut item, mut names) = (1, String::new(), Vec::new());
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(std::mem::take(&mut item)),
            _ if depth == 1 => item.push(c),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names.push(item);
    names
        .iter()
        .filter_map(|item| item.trim().split("::").next().map(str::to_owned))
        .filter(|name| !name.is_empty())
        .collect()
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
        for import in imports(&file) {
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
    for file in files(&source()) {
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
