//! `keys generate` and `keys list`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::run::{Directory, Running, command, run};

fn generate(file: &Path) -> String {
    run(&["keys", "generate", "--file", file.to_str().unwrap()]).good()
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

fn listed(file: &Path) -> Vec<Value> {
    let json = run(&["keys", "list", "--json", "--file", file.to_str().unwrap()]).good();
    serde_json::from_str(&json).unwrap()
}

/// Every text in a keyring that is a key.
fn keys_in(text: &str) -> Vec<String> {
    let keyring: toml::Table = text.parse().unwrap();
    let keys = keyring["keys"].as_array().unwrap().iter().map(|key| key["key"].as_str().unwrap());
    keys.chain([keyring["id_key"].as_str().unwrap()]).map(str::to_owned).collect()
}

#[test]
fn a_keyring_is_its_owners_alone_and_a_second_run_adds_a_key() {
    let directory = Directory::new("keys");
    let file = directory.path("keys.toml");
    assert!(generate(&file).starts_with(&format!("Made {}", file.display())));
    assert_eq!(mode(&file), 0o600);
    let first = fs::read_to_string(&file).unwrap();
    let said = generate(&file);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1, "nothing else is left there");

    let keys = listed(&file);
    assert_eq!(keys.len(), 2);
    let active: Vec<bool> = keys.iter().map(|key| key["active"].as_bool().unwrap()).collect();
    assert_eq!(active.iter().filter(|active| **active).count(), 1);
    let id = |active: bool| keys.iter().find(|key| key["active"] == active).unwrap()["id"].as_str().unwrap();
    assert!(first.contains(id(true)), "the first key is still the active one");
    assert!(said.contains(id(false)), "{said}");
    let second = fs::read_to_string(&file).unwrap();
    for key in keys_in(&first) {
        assert!(second.contains(&key), "no key is lost");
    }

    let table = run(&["keys", "list", "--file", file.to_str().unwrap()]).good();
    assert_eq!(table.lines().count(), 3);
    let json = serde_json::to_string(&keys).unwrap();
    for key in keys_in(&second) {
        assert!(!table.contains(&key) && !json.contains(&key) && !said.contains(&key), "a key is shown");
    }
}

#[test]
fn a_keyring_is_changed_where_it_stands_and_nothing_beside_it() {
    let directory = Directory::new("keys-beside");
    let (file, other, link) =
        (directory.path("keys.toml"), directory.path("keys.new"), directory.path("link.toml"));
    fs::write(&other, "the operator's own").unwrap();
    generate(&file);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(fs::read_to_string(&other).unwrap(), "the operator's own");
    // Who may read it is the operator's word; behind a link it is the same file.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let before = fs::read_to_string(&file).unwrap();
    generate(&link);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(mode(&file), 0o640);
    assert_eq!(keys_in(&fs::read_to_string(&file).unwrap()).len(), keys_in(&before).len() + 1);
}

#[test]
fn commands_at_once_do_not_undo_each_other() {
    let directory = Directory::new("keys-at-once");
    let file = directory.path("keys.toml");
    generate(&file);
    let arguments = ["keys", "generate", "--file", file.to_str().unwrap()];
    let running: Vec<_> = (0..8).map(|_| Running::start(&mut command(arguments))).collect();
    for running in running {
        running.end().good();
    }
    let keyring = fs::read_to_string(&file).unwrap();
    assert_eq!(keyring.matches("[[keys]]").count(), 9, "every key that was made is there");
}

#[test]
fn an_inline_keyring_is_one_line_and_no_file() {
    let directory = Directory::new("keys-inline");
    let mut command = crate::run::command(["keys", "generate", "--inline"]);
    command.current_dir(&directory.0);
    let line = crate::run::end(command).good();
    assert!(line.starts_with("tik1.") && line.lines().count() == 1, "{line}");
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0);
    assert_eq!(run(&["keys", "generate", "--inline", "--file", "x"]).code, Some(2));
}

#[test]
fn a_broken_keyring_names_its_fault_and_stays_as_it_is() {
    let directory = Directory::new("keys-broken");
    let file = directory.path("keys.toml");
    generate(&file);
    let good = fs::read_to_string(&file).unwrap();
    let key = keys_in(&good)[0].clone();
    for (text, fault) in [
        (String::new(), "is not a keyring"),
        ("nonsense".to_owned(), "is not a keyring"),
        (good.replace(&key, "AAAA"), "must be 32 bytes"),
        (good.replace("active = \"", "active = \"0"), "active"),
        (format!("{good}oops = \"{key}\"\n"), "is not a keyring"),
    ] {
        fs::write(&file, &text).unwrap();
        for arguments in [["keys", "list", "--file"], ["keys", "generate", "--file"]] {
            let error = run(&[&arguments[..], &[file.to_str().unwrap()]].concat()).bad();
            assert!(error.contains(fault) && error.contains("keys.toml"), "{error}");
            assert!(!error.contains(&key), "a key is shown: {error}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), text, "a broken keyring is not written over");
    }
}

#[test]
fn a_place_that_is_not_there_is_named() {
    for arguments in [["keys", "list", "--file"], ["keys", "generate", "--file"]] {
        let error = run(&[&arguments[..], &["/nowhere/at-all/keys.toml"]].concat()).bad();
        assert!(error.contains("/nowhere/at-all/keys.toml"), "{error}");
    }
}
