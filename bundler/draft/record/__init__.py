"""Running a program online as it is, and finding out all that it loads."""
