package migrate

// What the tests with real servers, which are outside of the package, use of the others.
type File = file

var Look = look
