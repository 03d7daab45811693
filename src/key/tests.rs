use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_key_that_is_made_is_read_and_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let id = generate(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(read(&file).unwrap().id, id);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with(&format!("# A key of bakelite, id {id}.")), "{text}");
    let again = generate(&file).unwrap_err();
    assert_eq!(again.status, Status::Exists);
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "the key is still there");
    assert_ne!(generate(&dir.path().join("other")).unwrap(), id);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    generate(&file).unwrap();
    for (mode, well) in [(0o600, true), (0o640, true), (0o604, false), (0o602, false)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let status = read(&file).map(drop).map_err(|error| error.status);
        assert_eq!(status, if well { Ok(()) } else { Err(Status::Usage) }, "{mode:o}");
    }
}

#[test]
fn a_file_without_a_sound_key_says_what_is_wrong() {
    let secret = Secret::new([0xa5; 32]);
    let id = Key::new(&secret).id;
    let good = text(&secret, id).to_string();
    let line = good.lines().last().unwrap();
    let wrong_digit = line.strip_suffix('5').unwrap().to_owned() + "4";
    let newer = line.replace("key-1", "key-2");
    assert!(line.starts_with("bakelite-key-1 "), "{line}");
    for (text, cause) in [
        (line.to_owned(), None),
        (
            format!(
                "\n  {}\r\n# more\n",
                line.to_uppercase().replace("BAKELITE-KEY", "bakelite-key")
            ),
            None,
        ),
        (wrong_digit, Some("a digit is wrong")),
        (line[..line.len() - 1].to_owned(), Some("64 hexadecimal digits")),
        (format!("{line} x"), Some("64 hexadecimal digits")),
        (format!("{line}\n{line}"), Some("more than one")),
        (newer, Some("newer version")),
        ("# nothing\n".into(), Some("no key in it")),
        (String::new(), Some("no key in it")),
    ] {
        let found = parse(text.as_bytes()).map(|key| key.id);
        match cause {
            None => assert_eq!(found, Ok(id), "{text}"),
            Some(cause) => assert!(found.unwrap_err().contains(cause), "{text}"),
        }
    }
    assert!(parse(&[0xff, 0xfe]).is_err());
    let missing = read(Path::new("/nonexistent/key")).unwrap_err();
    assert_eq!(missing.status, Status::Key, "{missing}");
}

#[test]
fn asking_for_sealed_objects_without_a_key_is_an_error() {
    for (rule, well) in
        [(Rule::Auto, true), (Rule::None, true), (Rule::New, false), (Rule::All, false)]
    {
        let loaded = load(&Sealing { key_files: Vec::new(), rule });
        let status = loaded.map(|keys| keys.all.len()).map_err(|error| error.status);
        assert_eq!(status, if well { Ok(0) } else { Err(Status::Usage) }, "{rule:?}");
    }
}

#[test]
fn a_directory_is_no_key_and_is_said_to_be_one() {
    let dir = tempfile::tempdir().unwrap();
    let error = read(dir.path()).unwrap_err();
    assert!(
        error.status == Status::Usage && error.message.ends_with("it is a directory"),
        "{error}"
    );
}
