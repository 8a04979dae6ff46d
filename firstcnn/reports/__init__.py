"""What a class has done, from the gradebook and the autograded notebooks: pages and tables."""
