//! Stores as a user types them, and the errors for invalid ones.

use std::path::Path;

use proptest::prelude::*;
use storage_backends::{Backend, Cloud, StoreUrl, UrlError};

fn parse(text: &str) -> Result<StoreUrl, UrlError> {
    StoreUrl::parse(text, Path::new("/base/dir"))
}

#[test]
fn places_are_read_and_shown() {
    let cases = [
        ("/abs/dir", "/abs/dir"),
        ("rel/dir", "/base/dir/rel/dir"),
        ("./a:b", "/base/dir/./a:b"),
        ("file:///abs/a%20b%3F", "/abs/a b?"),
        ("file://localhost/abs", "/abs"),
        ("file:/abs", "/abs"),
        ("memory:", "memory:"),
        ("memory:///", "memory:"),
        ("memory:/a/b", "memory:/a/b"),
        ("s3://bucket", "s3://bucket"),
        ("S3://bucket/", "s3://bucket"),
        ("s3://my.bucket-1/a/b%2F~/", "s3://my.bucket-1/a/b%2F~"),
        ("gs://bucket/p", "gs://bucket/p"),
        ("az://container/p@q", "az://container/p@q"),
    ];
    for (text, shown) in cases {
        assert_eq!(parse(text).map(|url| url.to_string()), Ok(shown.to_owned()), "{text}");
    }
    let url = parse("az://container/p").unwrap();
    assert_eq!(
        (url.backend(), url.bucket(), url.local_dir()),
        (Backend::Cloud(Cloud::Azure), Some("container"), None)
    );
    assert_eq!(parse("x").unwrap().local_dir(), Some(Path::new("/base/dir/x")));
    assert_eq!(StoreUrl::local("/a\nb\u{1b}[31m").to_string(), "/a\\nb\\u{1b}[31m");
}

#[test]
fn errors_say_what_is_wrong() {
    let cases = [
        ("", "the store's URL is empty"),
        (
            "s4://bucket",
            "unknown scheme `s4:` in the store's URL; did you mean `s3:`? (known: file, s3, gs, az, memory; a \
             directory with a colon in its name is written `./NAME`)",
        ),
        (
            "remote:path",
            "unknown scheme `remote:` in the store's URL (known: file, s3, gs, az, memory; a directory with a \
             colon in its name is written `./NAME`)",
        ),
        ("s3://", "`s3://` needs the name of a bucket"),
        ("s3:///prefix", "`s3://` needs the name of a bucket"),
        ("s3:bucket", "`s3://` needs the name of a bucket"),
        ("az://", "`az://` needs the name of a container"),
        ("s3://buc ket/x", "the bucket in the store's URL may hold only letters, digits, `.`, `-` and `_`"),
        (
            "s3://b/a/../c",
            "the prefix `a/../c` in the store's URL is not allowed: `.` and `..` can't be parts of it",
        ),
        ("s3://b/a//c", "the prefix `a//c` in the store's URL is not allowed: it has an empty part"),
        ("gs://b/a\nc", "the prefix `a\\nc` in the store's URL is not allowed: it has a control character"),
        ("s3://b/p?region=x", "the store's URL holds a query (`?...`); settings are given as options"),
        (
            "file://host/dir",
            "`file://host/dir` is not a usable file URL: it names a host; a local path has three slashes, \
             `file:///dir`",
        ),
        (
            "file:dir",
            "`file:dir` is not a usable file URL: the path must be absolute; a relative one is written without \
             `file:`",
        ),
        (
            "~/store",
            "`~` at the start of the store's path is expanded by shells only; write the path in full",
        ),
    ];
    for (text, said) in cases {
        assert_eq!(parse(text).unwrap_err().to_string(), said, "{text}");
    }
}

#[test]
fn k2_user_info_and_queries_are_refused_and_not_shown() {
    for text in [
        "s3://AKIA:canary@bucket/p",
        "s3://AKIA:can/ary-canary@bucket/p",
        "az://canary@account/p",
        "gs://bucket/p?token=canary",
        "file://user:canary@host/dir",
        "s3://key:canary/x",
    ] {
        let error = parse(text).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("canary"), "{text}: {shown}");
    }
}

proptest! {
    #[test]
    fn any_text_is_a_place_or_an_error(text in "\\PC*") {
        if let Ok(url) = parse(&text) {
            let _ = format!("{url} {url:?}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back(
        scheme in prop::sample::select(vec!["s3", "gs", "az"]),
        bucket in "[a-z0-9][a-z0-9._-]{0,20}",
        parts in prop::collection::vec("[^/?\\pC.]{1,8}", 0..4),
    ) {
        let text = format!("{scheme}://{bucket}/{}", parts.join("/"));
        let url = parse(&text).unwrap();
        prop_assert_eq!(parse(&url.to_string()).unwrap(), url);
    }
}
