"""Database servers for tests: started on a free loopback port, ended with the tests."""
