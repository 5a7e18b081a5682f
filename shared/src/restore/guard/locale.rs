//! Whether the server can make a database that sorts as the backup's did.

use super::gather::try_value;
use crate::manifest::DatabaseSettings;
use crate::pg::Connection;
use crate::restore::RestoreError;
use crate::restore::ask::{literal, value};

const ICU: u32 = 150_000;
const BUILTIN: u32 = 170_000;
/// `invalid_parameter_value`: the operating system has no such locale.
const NOT_THERE: &str = "22023";

/// What is missing, in words.
pub(super) fn missing(
    server: &mut Connection,
    version: u32,
    settings: &DatabaseSettings,
) -> Result<Option<String>, RestoreError> {
    for name in [&settings.collate, &settings.ctype] {
        if !has_libc(server, name)? {
            return Ok(Some(format!("the operating system's locale {name}")));
        }
    }
    let locale = settings.icu_locale.as_deref().unwrap_or("C");
    let sql = match settings.locale_provider.as_str() {
        "icu" if version < ICU => "SELECT false".to_owned(),
        // Every server lists the collation `unicode`; this one comes with the library.
        "icu" => "SELECT EXISTS (SELECT FROM pg_collation WHERE collname = 'und-x-icu')".to_owned(),
        "builtin" if version < BUILTIN => "SELECT false".to_owned(),
        "builtin" => format!(
            "SELECT EXISTS (SELECT FROM pg_collation WHERE collprovider = 'b' AND colllocale = {})",
            literal(locale)
        ),
        _ => return Ok(None),
    };
    let is_there = value(server, "for the backup's locale", &sql)? == "t";
    let provider = &settings.locale_provider;
    Ok((!is_there).then(|| format!("locale {locale} of the provider {provider}")))
}

/// Anybody may set the locale of amounts of money, for this transaction, if it exists.
fn has_libc(server: &mut Connection, name: &str) -> Result<bool, RestoreError> {
    if name.is_empty() || name == "C" || name == "POSIX" {
        return Ok(true);
    }
    let sql = format!("SELECT set_config('lc_monetary', {}, true)", literal(name));
    let set = try_value(server, "for the backup's locale", &sql)?;
    Ok(!matches!(set, Err(error) if error.code == NOT_THERE))
}
