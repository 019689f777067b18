//! What the client sends after login: the messages that name statements and portals
//! (PostgreSQL documentation, chapter "Message Formats"). Everything borrows from the message's body.

/// A message whose body does not have the form that its tag promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {0} message is malformed")]
pub struct Malformed(pub &'static str);

/// Walks a message's body.
#[derive(Debug, Clone)]
pub struct Body<'a> {
    rest: &'a [u8],
    message: &'static str,
}

impl<'a> Body<'a> {
    /// Starts at the first byte after the length.
    #[must_use]
    pub const fn new(message: &'static str, body: &'a [u8]) -> Self {
        Self { rest: body, message }
    }

    /// Bytes not walked yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// A string that ends with a zero byte, without it.
    ///
    /// # Errors
    /// [`Malformed`] without a zero byte.
    pub fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let end = memchr::memchr(0, self.rest).ok_or(Malformed(self.message))?;
        let (text, rest) = self.rest.split_at_checked(end).ok_or(Malformed(self.message))?;
        self.rest = rest.get(1..).ok_or(Malformed(self.message))?;
        Ok(text)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (byte, rest) = self.rest.split_first().ok_or(Malformed(self.message))?;
        self.rest = rest;
        Ok(*byte)
    }

    /// A 16-bit count.
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk::<2>().ok_or(Malformed(self.message))?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    /// A 32-bit number.
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk::<4>().ok_or(Malformed(self.message))?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// A value with its length before it; `None` for NULL (length -1).
    ///
    /// # Errors
    /// [`Malformed`] if it goes beyond the body or its length is below -1.
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let length = self.u32()?;
        if length == u32::MAX {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| Malformed(self.message))?;
        let (value, rest) = self.rest.split_at_checked(length).ok_or(Malformed(self.message))?;
        self.rest = rest;
        Ok(Some(value))
    }
}

/// `Parse`: text becomes a prepared statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The statement's name; empty for the unnamed one.
    pub name: &'a [u8],
    /// Its text.
    pub text: &'a [u8],
    /// Types of its parameters as the client declares them: big-endian OIDs, 4 bytes each.
    pub types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Reads the body.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut walk = Body::new("Parse", body);
        let name = walk.string()?;
        let text = walk.string()?;
        let count = usize::from(walk.u16()?);
        let types = walk.rest().get(..count * 4).ok_or(Malformed("Parse"))?;
        Ok(Self { name, text, types })
    }
}

/// Parameters with their formats, as `Bind` and `FunctionCall` carry them.
#[derive(Debug, Clone)]
pub struct Values<'a> {
    /// Format of each value, 2 bytes each: none (all text), one (for all), or one for each.
    formats: &'a [u8],
    /// How many values follow.
    count: u16,
    values: Body<'a>,
}

impl<'a> Values<'a> {
    fn read(message: &'static str, walk: &mut Body<'a>) -> Result<Self, Malformed> {
        let count = usize::from(walk.u16()?);
        let (formats, rest) = walk.rest().split_at_checked(count * 2).ok_or(Malformed(message))?;
        let mut values = Body::new(message, rest);
        let count = values.u16()?;
        Ok(Self { formats, count, values })
    }

    /// Whether each value is binary, and its bytes or NULL. Where the body is cut, the last item is an error.
    pub fn iter(&self) -> impl Iterator<Item = Result<(bool, Option<&'a [u8]>), Malformed>> + use<'a> {
        let formats = self.formats;
        let mut values = self.values.clone();
        (0..usize::from(self.count)).map(move |index| {
            let binary = match formats.len() {
                0 => false,
                2 => formats == [0, 1],
                _ => formats.get(index * 2..index * 2 + 2) == Some([0, 1].as_slice()),
            };
            values.value().map(|value| (binary, value))
        })
    }
}

/// `Bind`: a statement and parameters become a portal.
#[derive(Debug, Clone)]
pub struct Bind<'a> {
    /// The portal's name; empty for the unnamed one.
    pub portal: &'a [u8],
    /// The statement's name.
    pub statement: &'a [u8],
    /// Its parameters.
    pub values: Values<'a>,
}

impl<'a> Bind<'a> {
    /// Reads the body; it may be cut anywhere among the values.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut walk = Body::new("Bind", body);
        let portal = walk.string()?;
        let statement = walk.string()?;
        Ok(Self { portal, statement, values: Values::read("Bind", &mut walk)? })
    }
}

/// The portal that `Execute` runs.
///
/// # Errors
/// [`Malformed`].
pub fn execute(body: &[u8]) -> Result<&[u8], Malformed> {
    let mut walk = Body::new("Execute", body);
    let portal = walk.string()?;
    walk.u32()?;
    Ok(portal)
}

/// What `Describe` and `Close` are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// A prepared statement.
    Statement(&'a [u8]),
    /// A portal.
    Portal(&'a [u8]),
}

impl<'a> Named<'a> {
    /// Reads the body of a `Describe` or `Close`.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(message: &'static str, body: &'a [u8]) -> Result<Self, Malformed> {
        let mut walk = Body::new(message, body);
        match walk.byte()? {
            b'S' => Ok(Self::Statement(walk.string()?)),
            b'P' => Ok(Self::Portal(walk.string()?)),
            _ => Err(Malformed(message)),
        }
    }
}

/// `FunctionCall`: a function by its OID, past SQL.
#[derive(Debug, Clone)]
pub struct FunctionCall<'a> {
    /// The function's OID.
    pub function: u32,
    /// Its arguments.
    pub values: Values<'a>,
}

impl<'a> FunctionCall<'a> {
    /// Reads the body; it may be cut anywhere among the values.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut walk = Body::new("FunctionCall", body);
        let function = walk.u32()?;
        Ok(Self { function, values: Values::read("FunctionCall", &mut walk)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bind_gives_its_values_with_their_formats() {
        let mut body = b"p\0s\0".to_vec();
        body.extend_from_slice(&[0, 3, 0, 0, 0, 1, 0, 0]);
        body.extend_from_slice(&[0, 3, 0, 0, 0, 2, b'4', b'2', 0, 0, 0, 1, 7, 255, 255, 255, 255, 0, 0]);
        let bind = Bind::read(&body).unwrap();
        assert_eq!((bind.portal, bind.statement), (b"p".as_slice(), b"s".as_slice()));
        let values: Vec<_> = bind.values.iter().map(Result::unwrap).collect();
        assert_eq!(values, [(false, Some(b"42".as_slice())), (true, Some([7].as_slice())), (false, None)]);
    }

    #[test]
    fn one_format_stands_for_all_values() {
        let body = [0, 0, 0, 1, 0, 1, 0, 2, 0, 0, 0, 1, 1, 0, 0, 0, 1, 2];
        let bind = Bind::read(&body).unwrap();
        assert!(bind.values.iter().all(|value| value.unwrap().0));
    }

    proptest! {
        #[test]
        fn hostile_bodies_are_read_or_refused(body: Vec<u8>) {
            let _ = Parse::read(&body);
            let _ = execute(&body);
            let _ = Named::read("Close", &body);
            if let Ok(bind) = Bind::read(&body) { let _ = bind.values.iter().count(); }
            if let Ok(call) = FunctionCall::read(&body) { let _ = call.values.iter().count(); }
        }
    }
}
