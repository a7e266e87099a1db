"""One file a migration; a file that was released is never edited."""
