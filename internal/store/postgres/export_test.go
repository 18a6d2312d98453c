package postgres

// For the tests, which stand outside because their server uses this package.
const LockKey = lockKey

var Parse = parse
