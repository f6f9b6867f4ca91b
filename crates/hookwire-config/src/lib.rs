//! Files and environment become settings and definitions, checked once; every mistake is told with its place.
