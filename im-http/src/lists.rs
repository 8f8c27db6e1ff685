//! List headers (RFC 9110 section 5.6.1): several lines of one name are one list.

use http::HeaderMap;
use http::header::HeaderName;

/// An element of a list header that is not ASCII text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotText;

/// Iterates over the elements of a list header, over all its lines and in their order.
///
/// Commas inside quoted strings do not separate. Empty elements are skipped. Elements that are not
/// ASCII text are errors: a check that depends on *all* elements must not ignore them. Where
/// unknown names change nothing, use [`list`].
pub fn elements(
    headers: &HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = Result<String, NotText>> {
    let lines = headers.get_all(name).iter().flat_map(|line| split(line.as_bytes(), b','));
    lines.filter_map(element)
}

/// Iterates over the ASCII elements of a list header, over all its lines and in their order.
///
/// Commas inside quoted strings do not separate. Empty elements are skipped, and so are elements
/// that are not ASCII text. Use it only for lists in which unknown names change nothing;
/// [`elements`] returns those as errors.
pub fn list(headers: &HeaderMap, name: &HeaderName) -> impl Iterator<Item = String> {
    elements(headers, name).filter_map(Result::ok)
}

/// Returns whether a list header has this element, in any case.
pub fn lists(headers: &HeaderMap, name: &HeaderName, element: &str) -> bool {
    list(headers, name).any(|found| found.eq_ignore_ascii_case(element))
}

/// Iterates over a list of preferences: names in lower case, each with its weight (RFC 9110 section
/// 12.4.2). An unreadable weight is 0.
pub(crate) fn preferences(
    headers: &HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = (String, f32)> {
    list(headers, name).map(|element| {
        let mut parts = split(element.as_bytes(), b';').into_iter().filter_map(text);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| {
            let (key, value) = part.split_once('=')?;
            key.eq_ignore_ascii_case("q").then(|| value.to_owned())
        });
        let weight = weight.map_or(1.0, |text| text.parse().unwrap_or(0.0));
        (name, if (0.0..=1.0).contains(&weight) { weight } else { 0.0 })
    })
}

/// Splits at a byte, but not inside quoted strings (RFC 9110 section 5.6.4).
fn split(line: &[u8], at: u8) -> Vec<&[u8]> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (index, byte) in line.iter().enumerate() {
        match *byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            byte if byte == at && !quoted => {
                parts.push(&line[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&line[start..]);
    parts
}

/// Trims an element; `None` if it is empty.
fn element(bytes: &[u8]) -> Option<Result<String, NotText>> {
    let bytes = bytes.trim_ascii();
    match std::str::from_utf8(bytes) {
        Ok("") => None,
        Ok(text) if text.is_ascii() => Some(Ok(text.to_owned())),
        _ => Some(Err(NotText)),
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    element(bytes)?.ok()
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, CONNECTION, HeaderValue};

    use super::*;

    fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let lines = lines.iter().map(|line| HeaderValue::from_bytes(line.as_bytes()).unwrap());
        lines.map(|line| (name.clone(), line)).collect()
    }

    #[test]
    fn header_lines_form_one_list() {
        for lines in [
            &["keep-alive, Upgrade"][..],
            &["keep-alive", "Upgrade"],
            &[", keep-alive ,\t,", "", "Upgrade,"],
            &["keep-alive, \u{fc}", "Upgrade"],
        ] {
            let headers = headers(&CONNECTION, lines);
            let found: Vec<_> = list(&headers, &CONNECTION).collect();
            assert_eq!(found, ["keep-alive", "Upgrade"], "{lines:?}");
            assert!(lists(&headers, &CONNECTION, "upgrade"), "{lines:?}");
        }
        assert_eq!(list(&HeaderMap::new(), &CONNECTION).next(), None);
    }

    #[test]
    fn foreign_elements_are_named_as_such() {
        let headers = headers(&CONNECTION, &["a, \u{fc},, b", "\u{fc}"]);
        let found: Vec<_> = elements(&headers, &CONNECTION).collect();
        assert_eq!(found, [Ok("a".into()), Err(NotText), Ok("b".into()), Err(NotText)]);
    }

    #[test]
    fn quoted_strings_stay_whole() {
        let headers = headers(&ACCEPT, &[r#"a/b;x="1, \"2;q=0";q=0.5, c/d"#]);
        let found: Vec<_> = preferences(&headers, &ACCEPT).collect();
        assert_eq!(found, [("a/b".to_owned(), 0.5), ("c/d".to_owned(), 1.0)]);
    }
}
