//! Configurations from files: what is wrong with a file is said, with its name.

use std::fs;

use asynchat::Result;
use asynchat::tls::{roots_from_file, server_config_from_files};

use crate::tls::identity;

#[test]
fn the_error_of_a_file_says_what_is_missing_and_where() -> Result {
    let dir = tempfile::tempdir()?;
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).map(|()| path)
    };
    let (certificate_pem, key_pem) = (&identity().certificate_pem, &identity().key_pem);
    let certificate = write("certificate", certificate_pem)?;
    let key = write("key", key_pem)?;
    let cut = write("cut", &certificate_pem[..100])?;
    let none = dir.path().join("none");
    server_config_from_files(&certificate, &key)?;
    roots_from_file(&certificate)?;

    for (chain, key, file, why) in [
        (
            &certificate,
            &certificate,
            "certificate",
            "there is no private key in the file",
        ),
        (&key, &key, "key", "there is no certificate in the file"),
        (&none, &key, "none", ""),
        (&certificate, &none, "none", ""),
        (&cut, &key, "cut", ""),
    ] {
        let error = server_config_from_files(chain, key).err();
        let error = error.ok_or("it was read")?.to_string();
        let file = dir.path().join(file).display().to_string();
        assert!(error.starts_with(&file) && error.contains(why), "{error}");
    }
    let error = roots_from_file(&key).err().ok_or("it was read")?;
    assert!(
        error.to_string().contains("there is no certificate"),
        "{error}"
    );

    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let other = write("other", &other.signing_key.serialize_pem())?;
    let error = server_config_from_files(&certificate, &other).err();
    let error = error.ok_or("the key is another one's")?;
    let words = "the private key does not belong to the first certificate: ";
    assert!(error.to_string().contains(words), "{error}");
    Ok(())
}

#[test]
fn the_error_of_a_key_or_a_certificate_of_another_form_says_what_to_do() -> Result {
    let dir = tempfile::tempdir()?;
    let write = |name: &str, text: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, text).map(|()| path)
    };
    let certificate = write("certificate", identity().certificate_pem.as_bytes())?;
    let key = write("key", identity().key_pem.as_bytes())?;
    let removes = "the private key is encrypted; `openssl pkey -in FILE -out NEW` removes";
    for (text, why) in [
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIG=\n-----END ENCRYPTED PRIVATE KEY-----\n",
            removes,
        ),
        (
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n\
             AAAA\n-----END EC PRIVATE KEY-----\n",
            removes,
        ),
        ("\x30\x13", "which is not in the PEM format"),
        ("", "which is not in the PEM format"),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n",
            "the line that ends a private key (-----END ...) is missing",
        ),
        (
            "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n",
            "the file has a damaged private key: ",
        ),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "the private key cannot be used: ",
        ),
    ] {
        let bad = write("bad", text.as_bytes())?;
        let error = server_config_from_files(&certificate, &bad).err();
        let error = error.ok_or("it was read")?.to_string();
        assert!(error.contains(why), "{error}");
    }
    let der = write("der", &identity().chain()[0])?;
    let error = server_config_from_files(&der, &key).err();
    let error = error.ok_or("it was read")?.to_string();
    let why = "there is no certificate in the file, which is not in the PEM format";
    assert!(error.contains(why), "{error}");
    Ok(())
}
