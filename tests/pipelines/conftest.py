"""Its place puts this folder on the path: tests below it share `made_up_people`."""
